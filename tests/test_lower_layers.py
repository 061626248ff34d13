"""Prompts that enter above the first layer, and what is kept of the layers below: always what would be computed."""

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import ended, refused, started
from tiny import MODELS, query_logits, tiny_backbone, tiny_corpus, tiny_episodes, tiny_folder, tiny_model

from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.config import GROUPS, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.lower_layers import LowerLayers
from metawarp.texts.task_batch import TaskBatch

BOTH = InnerLoop(2, GROUPS)
LATE = {"adapter_layer": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("backbone"), layers=3)


@pytest.fixture(scope="module")
def tiny(folder):
    return Backbone.load(folder, dtype="float64")


@pytest.fixture
def counted(tiny, monkeypatch):
    """How many texts went through the layers below."""
    texts, real = [], type(tiny).run_layers

    def run_layers(self, entering, mask, first, end, **named):
        if (first, end) == (0, 1):
            texts.append(len(entering))
        return real(self, entering, mask, first, end, **named)

    monkeypatch.setattr(type(tiny), "run_layers", run_layers)
    return texts


def corpus_texts():
    corpus = tiny_corpus()
    return [*corpus.texts, *corpus.class_names]


def cache_file(folder) -> Path:
    (file,) = Path(folder).glob("*.hidden")
    assert [file] == list(Path(folder).iterdir())
    return file


# The model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_without_soft_tokens_the_layer_makes_no_difference(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type, head=True, layers=3)
    template = {"template": "{text} was {mask}", "read_out": "mean+mask"}
    first, init = tiny_model(backbone, **template)
    late, _ = tiny_model(backbone, **template, adapter_layer=2)
    for one, other in zip(
        query_logits(first, init, tiny_episodes()), query_logits(late, init, tiny_episodes()), strict=True
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def test_the_layers_below_see_no_soft_token_and_those_above_do(tiny):
    warp, init = tiny_model(tiny, **LATE)
    episodes = tiny_episodes()
    moved = replace(init, adapter=init.adapter + 1)
    assert not torch.allclose(query_logits(warp, init, episodes)[0], query_logits(warp, moved, episodes)[0])
    batch = warp.encoder(["set the alarm"])
    entering = warp.lower(batch)
    bare = warp.encoder.tokenizer("set the alarm")["input_ids"]
    with_mask = torch.tensor([[*bare[:-1], tiny.tokenizer.mask_token_id, bare[-1]]])
    expected = tiny.run_layers(tiny.word_embeddings[with_mask], torch.ones(with_mask.shape), 0, 1)
    assert torch.allclose(entering[batch.prompt_index < 0], expected[0], rtol=0, atol=1e-12)
    assert (entering[batch.prompt_index >= 0] == 0).all()


def test_tasks_at_once_are_one_by_one(tiny):
    warp, init = tiny_model(tiny, BOTH, **LATE)
    episodes = tiny_episodes()
    together = query_logits(warp, init, episodes, BOTH)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(logits, query_logits(warp, init, [episode], BOTH)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("read_out", ["mask", "mean+mask"])
def test_second_order_is_exact(tiny, read_out):
    """Both ways agree, and with central differences of the loss along a direction of the prompt."""
    warp, init = tiny_model(tiny, BOTH, learn=True, read_out=read_out, **LATE)
    batch = MetaBatch(warp, TaskBatch.encode(tiny_episodes(1), warp.encoder), BOTH, last_step(2), "unroll")
    maml = METHODS["maml"].meta_gradient
    unrolled, recomputed = maml(init, batch), maml(init, replace(batch, second_order="recompute"))
    way = torch.randn(init.adapter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = [float(maml(replace(init, adapter=init.adapter + h * way), batch).losses.mean()) for h in (-1e-5, 1e-5)]
    slope = float((unrolled.gradients.adapter * way).sum())
    assert slope == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)
    for name, gradient in tensors_of(unrolled.gradients).items():
        assert torch.allclose(tensors_of(recomputed.gradients)[name], gradient, rtol=1e-9, atol=1e-12), name


def test_soft_tokens_start_as_the_layers_below_leave_them(tiny):
    config = WarpConfig(template="{text} {prompt:'set the'} {mask}", adapter_layer=2)
    warp = Warp(tiny, config)
    found = Init.start(warp, InnerLoop()).parameters.adapter
    ids = torch.tensor([warp.encoder.tokenizer(f"set the {tiny.tokenizer.mask_token}")["input_ids"]])
    expected = tiny.run_layers(tiny.word_embeddings[ids], torch.ones(ids.shape), 0, 2)[0, 1:3]
    assert torch.allclose(found, expected.float(), atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(tiny, layer):
    with refused(f"adapter_layer={layer}", "0 to 2"):
        Warp(tiny, WarpConfig(adapter_layer=layer))


def test_an_init_keeps_its_layer(tiny, tmp_path):
    Init.start(Warp(tiny, WarpConfig(adapter_layer=2)), InnerLoop()).save(tmp_path)
    assert Init.load(tmp_path).bind(tiny).config.adapter_layer == 2


# What is kept in the cache ------------------------------------------------------------------------------------


def test_a_text_goes_through_the_layers_below_once(tiny, counted):
    warp, init = tiny_model(tiny, BOTH, cache=FeatureCache(), **LATE)
    counted.clear()
    episodes = tiny_episodes()
    texts = {t for e in episodes for t in (*e.support_texts, *e.query_texts, *e.class_names)}
    for _ in range(2):
        query_logits(warp, init, episodes, BOTH)
        assert sum(counted) == len(texts)


@pytest.mark.parametrize("max_bytes", [1, 3000])
def test_a_batch_larger_than_the_cache_is_whole(tiny, max_bytes):
    warp, _ = tiny_model(tiny, **LATE)
    batch, cache = warp.encoder(corpus_texts()), FeatureCache(max_bytes)
    small = LowerLayers(tiny, 1, cache)
    for _ in range(2):
        assert torch.allclose(small(batch), warp.lower(batch), rtol=0, atol=1e-12)
        assert cache.n_bytes <= max_bytes


# What is kept in a file ---------------------------------------------------------------------------------------


def test_a_file_serves_a_second_run(tiny, tmp_path, counted):
    first, init = tiny_model(tiny, BOTH, **LATE)
    expected = query_logits(first, init, tiny_episodes(), BOTH)
    first.with_hidden_states(corpus_texts(), tmp_path / "cache")
    cache_file(tmp_path / "cache")
    again = first.with_hidden_states(corpus_texts(), tmp_path / "cache")
    counted.clear()
    for one, other in zip(query_logits(again, init, tiny_episodes(), BOTH), expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert not counted
    again.lower(again.encoder(["never seen before"]))
    assert counted == [1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_holds_the_numbers_that_are_computed(folder, tmp_path, dtype):
    backbone = Backbone.load(folder, dtype=dtype)
    warp = Warp(backbone, WarpConfig(adapter_layer=1))
    stored = warp.with_hidden_states(corpus_texts(), tmp_path)
    batch = warp.encoder(corpus_texts()[:9])
    assert stored.lower(batch).dtype == backbone.dtype
    assert torch.allclose(
        stored.lower(batch).float(), warp.lower(batch).float(), atol=1e-5 if dtype == "float32" else 0.05
    )


@pytest.mark.parametrize(
    "damage",
    [lambda good: good[:-1], lambda good: good[:100] + bytes([good[100] ^ 1]) + good[101:], lambda good: b""],
    ids=["truncated", "one bit", "empty"],
)
def test_a_damaged_file_is_written_again(tiny, tmp_path, damage, counted):
    warp, _ = tiny_model(tiny, **LATE)
    warp.with_hidden_states(corpus_texts(), tmp_path)
    file = cache_file(tmp_path)
    good = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(good))
    counted.clear()
    warp.with_hidden_states(corpus_texts(), tmp_path)
    assert sum(counted) == len(corpus_texts())
    assert cache_file(tmp_path).read_bytes() == good


def test_what_another_backbone_layer_template_or_corpus_left_is_not_taken(tiny, tmp_path):
    def files(backbone=tiny, texts=None, **config):
        warp, _ = tiny_model(backbone, **{**LATE, **config})
        warp.with_hidden_states(texts or corpus_texts(), tmp_path / "cache")
        return len(list((tmp_path / "cache").iterdir()))

    assert files() == 1
    assert files(adapter_layer=2) == 2
    assert files(template="{text} was {prompt:1} {mask}") == 3
    assert files(texts=corpus_texts()[1:]) == 4
    assert files(tiny_backbone(tmp_path / "other", layers=3, seed=1)) == 5


def test_a_file_under_the_name_of_another_is_not_believed(tiny, tmp_path):
    one, _ = tiny_model(tiny, **LATE)
    one.with_hidden_states(corpus_texts(), tmp_path)
    wrong = cache_file(tmp_path).read_bytes()
    cache_file(tmp_path).unlink()
    other, _ = tiny_model(tiny, adapter_layer=2)
    other.with_hidden_states(corpus_texts(), tmp_path)
    file = cache_file(tmp_path)
    right = file.read_bytes()
    file.unlink()
    file.write_bytes(wrong)
    again, _ = tiny_model(tiny, adapter_layer=2)
    again.with_hidden_states(corpus_texts(), tmp_path)
    assert file.read_bytes() == right


@pytest.mark.slow
def test_two_processes_share_a_folder(folder, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from metawarp import Backbone, Warp, WarpConfig; from tiny import tiny_corpus\n"
        "warp = Warp(Backbone.load(sys.argv[1]), WarpConfig(adapter_layer=1))\n"
        "warp = warp.with_hidden_states(tiny_corpus().texts, sys.argv[2])\n"
        "print(float(warp.lower(warp.encoder(tiny_corpus().texts)).double().sum()))\n"
    )
    running = [started("-c", code, folder, tmp_path / "cache", Path(__file__).parent) for _ in range(2)]
    (code, printed, _), other = (ended(process) for process in running)
    assert code == 0 and other[:2] == (0, printed)
    cache_file(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_refused(tiny, tmp_path):
    (tmp_path / "file").touch()
    warp, _ = tiny_model(tiny, **LATE)
    with refused(f"{tmp_path}/file"):
        warp.with_hidden_states(corpus_texts(), tmp_path / "file")


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(tiny, tmp_path):
    warp, _ = tiny_model(tiny, **LATE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with refused(tmp_path, "File too large"):
            warp.with_hidden_states(corpus_texts(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_without_layers_below_is_refused(tiny, tmp_path):
    warp, _ = tiny_model(tiny)
    with refused("cache_folder", "adapter_layer=0"):
        warp.with_hidden_states(corpus_texts(), tmp_path)


def test_a_file_can_be_read_by_whoever_can_read_other_files(tiny, tmp_path):
    warp, _ = tiny_model(tiny, **LATE)
    warp.with_hidden_states(corpus_texts(), tmp_path / "cache")
    (tmp_path / "other").touch()
    assert cache_file(tmp_path / "cache").stat().st_mode == (tmp_path / "other").stat().st_mode
