"""Adapters that start above the first layer, and the states that are kept of the layers below them."""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from marks import slow_except
from running import ended, refused, started
from tiny import WITH_HEAD, query_logits, tiny_backbone, tiny_corpus, tiny_episodes, tiny_model
from torch.testing import assert_close

from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.config import GROUPS, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.lower_layers import LowerLayers
from metawarp.texts.task_batch import TaskBatch

BOTH = InnerLoop(2, GROUPS)
TEXTS = [*tiny_corpus().texts, *tiny_corpus().class_names]


@pytest.fixture
def n_texts_below():
    """A function that returns how many texts have passed the first layer alone since its last call."""
    with patch.object(Backbone, "run_layers", autospec=True, side_effect=Backbone.run_layers) as run_layers:

        def number() -> int:
            calls = [call.args for call in run_layers.call_args_list if call.args[3:] == (0, 1)]
            run_layers.reset_mock()
            return sum(len(entering) for _, entering, *_ in calls)

        yield number


def late_model(backbone, inner=BOTH, *, adapter_layer=1, **settings):
    return tiny_model(backbone, inner, adapter_layer=adapter_layer, **settings)


def states_below(warp: Warp, texts=TEXTS) -> torch.Tensor:
    assert warp.lower is not None
    return warp.lower(warp.encoder(texts))


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob("[!.]*")
    assert file.suffix == ".hidden"
    return file


# The model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", slow_except("bert", WITH_HEAD))
def test_without_soft_tokens_the_layer_makes_no_difference(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    models = [tiny_model(backbone, template="{text} was {mask}", adapter_layer=layer) for layer in (0, 2)]
    first, late = (query_logits(warp, init, tiny_episodes()) for warp, init in models)
    assert_close(late, first, rtol=0, atol=1e-10)


def test_the_layers_below_see_no_soft_token_and_those_above_do(tiny):
    warp, init = late_model(tiny)
    episodes, moved = tiny_episodes(1), replace(init, adapter=init.adapter + 1)
    assert not torch.allclose(query_logits(warp, init, episodes)[0], query_logits(warp, moved, episodes)[0])
    batch, entering = warp.encoder(["set the alarm"]), states_below(warp, ["set the alarm"])
    ids = torch.tensor([tiny.tokenizer("set the alarm [MASK]")["input_ids"]])
    expected = tiny.run_layers(tiny.word_embeddings[ids], torch.ones(ids.shape), 0, 1)
    assert_close(entering[batch.prompt_index < 0], expected[0], rtol=0, atol=1e-12)
    assert (entering[batch.prompt_index >= 0] == 0).all()


def test_tasks_that_are_adapted_together_are_adapted_as_if_alone(tiny):
    warp, init = late_model(tiny)
    episodes = tiny_episodes()
    alone = [query_logits(warp, init, [episode], BOTH)[0] for episode in episodes]
    assert_close(query_logits(warp, init, episodes, BOTH), alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("read_out", ["mask", "mean+mask"])
def test_second_order_is_exact(tiny, read_out):
    """Both ways agree with each other, and with central differences of the loss along a direction of the prompt."""
    warp, init = late_model(tiny, learn=True, read_out=read_out)
    batch = MetaBatch(warp, TaskBatch.encode(tiny_episodes(1), warp.encoder), BOTH, last_step(2), "unroll")
    maml = METHODS["maml"].meta_gradient
    unrolled, recomputed = maml(init, batch), maml(init, replace(batch, second_order="recompute"))
    direction = torch.randn(init.adapter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moved = [replace(init, adapter=init.adapter + step * direction) for step in (-1e-5, 1e-5)]
    low, high = (float(maml(one, batch).losses.mean()) for one in moved)
    assert float((unrolled.gradients.adapter * direction).sum()) == pytest.approx((high - low) / 2e-5, rel=1e-6)
    assert_close(tensors_of(recomputed.gradients), tensors_of(unrolled.gradients), rtol=1e-9, atol=1e-12)


def test_soft_tokens_start_as_the_layers_below_leave_their_words(tiny):
    warp = Warp(tiny, WarpConfig(template="{text} {prompt:'set the'} {mask}", adapter_layer=2))
    ids = torch.tensor([tiny.tokenizer("set the [MASK]")["input_ids"]])
    expected = tiny.run_layers(tiny.word_embeddings[ids], torch.ones(ids.shape), 0, 2)[0, 1:3]
    assert_close(Init.start(warp, InnerLoop()).parameters.adapter, expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(tiny, layer):
    with refused(f"adapter_layer={layer}", "0 to 2"):
        Warp(tiny, WarpConfig(adapter_layer=layer))


def test_a_saved_init_keeps_its_layer(tiny, tmp_path):
    Init.start(Warp(tiny, WarpConfig(adapter_layer=2)), InnerLoop()).save(tmp_path)
    assert Init.load(tmp_path).bind(tiny).config.adapter_layer == 2


# The cache ----------------------------------------------------------------------------------------------------


def test_with_a_cache_a_text_passes_the_layers_below_once(tiny, n_texts_below):
    warp, init = late_model(tiny, cache=FeatureCache())
    episodes = tiny_episodes()
    texts = {text for e in episodes for text in (*e.support_texts, *e.query_texts, *e.class_names)}
    n_texts_below()  # of the model's own start
    for expected in (len(texts), 0):
        query_logits(warp, init, episodes, BOTH)
        assert n_texts_below() == expected


@pytest.mark.parametrize("max_bytes", [1, 3000])
def test_a_batch_larger_than_the_cache_is_computed_whole(tiny, max_bytes):
    warp, _ = late_model(tiny)
    cache = FeatureCache(max_bytes)
    small = LowerLayers(tiny, 1, cache)
    for _ in range(2):
        assert_close(small(warp.encoder(TEXTS)), states_below(warp), rtol=0, atol=1e-12)
        assert cache.n_bytes <= max_bytes


# The file -----------------------------------------------------------------------------------------------------


def test_a_second_run_reads_the_states_from_the_file(tiny, tmp_path, n_texts_below):
    first, init = late_model(tiny)
    expected = query_logits(first, init, tiny_episodes(), BOTH)
    first.with_hidden_states(TEXTS, tmp_path / "cache")
    (tmp_path / "other").touch()
    assert cache_file(tmp_path / "cache").stat().st_mode == (tmp_path / "other").stat().st_mode
    second = first.with_hidden_states(TEXTS, tmp_path / "cache")
    n_texts_below()
    assert_close(query_logits(second, init, tiny_episodes(), BOTH), expected, rtol=0, atol=1e-12)
    assert n_texts_below() == 0
    states_below(second, ["never seen before"])
    assert n_texts_below() == 1


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_a_file_holds_the_states_in_the_precision_of_the_backbone(tiny, tmp_path, dtype, atol):
    warp = Warp(Backbone.load(tiny.source, dtype=dtype), WarpConfig(adapter_layer=1))
    stored = warp.with_hidden_states(TEXTS, tmp_path)
    assert_close(states_below(stored, TEXTS[:9]), states_below(warp, TEXTS[:9]), rtol=0, atol=atol)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[:-1],
    "one bit": lambda good: good[:100] + bytes([good[100] ^ 1]) + good[101:],
    "empty": lambda good: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_written_again(tiny, tmp_path, damage, n_texts_below):
    warp, _ = late_model(tiny)
    warp.with_hidden_states(TEXTS, tmp_path)
    file = cache_file(tmp_path)
    good = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(good))
    n_texts_below()
    warp.with_hidden_states(TEXTS, tmp_path)
    assert n_texts_below() == len(TEXTS)
    assert cache_file(tmp_path).read_bytes() == good


def test_another_backbone_layer_template_or_corpus_has_a_file_of_its_own(tiny, tmp_path):
    def n_files(backbone=tiny, texts=TEXTS, **config):
        late_model(backbone, **config)[0].with_hidden_states(texts, tmp_path / "cache")
        return len(list((tmp_path / "cache").glob("[!.]*")))

    assert n_files() == 1
    assert n_files(adapter_layer=2) == 2
    assert n_files(template="{text} was {prompt:1} {mask}") == 3
    assert n_files(texts=TEXTS[1:]) == 4
    assert n_files(tiny_backbone(tmp_path / "other", seed=1)) == 5


def test_a_file_under_the_name_of_another_is_written_again(tiny, tmp_path):
    first, second = (late_model(tiny, adapter_layer=layer)[0] for layer in (1, 2))
    first.with_hidden_states(TEXTS, tmp_path / "1")
    second.with_hidden_states(TEXTS, tmp_path / "2")
    file = cache_file(tmp_path / "2")
    right = file.read_bytes()
    file.unlink()
    file.write_bytes(cache_file(tmp_path / "1").read_bytes())
    second.with_hidden_states(TEXTS, tmp_path / "2")
    assert file.read_bytes() == right


@pytest.mark.slow
def test_two_processes_share_a_folder(tiny, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from metawarp import Backbone, Warp, WarpConfig; from tiny import tiny_corpus\n"
        "warp = Warp(Backbone.load(sys.argv[1]), WarpConfig(adapter_layer=1))\n"
        "warp = warp.with_hidden_states(tiny_corpus().texts, sys.argv[2])\n"
        "print(float(warp.lower(warp.encoder(tiny_corpus().texts)).double().sum()))\n"
    )
    running = [started("-c", code, tiny.source, tmp_path / "cache", Path(__file__).parent) for _ in range(2)]
    (one, printed, _), (other, again, _) = map(ended, running)
    assert one == other == 0 and printed == again
    cache_file(tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_used_is_refused(tiny, tmp_path):
    (tmp_path / "file").touch()
    with refused(f"{tmp_path}/file"):
        late_model(tiny)[0].with_hidden_states(TEXTS, tmp_path / "file")
    with refused("cache_folder", "adapter_layer=0"):
        tiny_model(tiny)[0].with_hidden_states(TEXTS, tmp_path)


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(tiny, tmp_path):
    warp, _ = late_model(tiny)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with refused(tmp_path, "File too large"):
            warp.with_hidden_states(TEXTS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("[!.]*"))
