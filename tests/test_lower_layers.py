"""Prompts that enter above the first layer, and what is kept of the layers below: always what would be computed."""

import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import MODELS, query_logits, tiny_backbone, tiny_corpus, tiny_episodes, tiny_folder, tiny_model

from episodes import InputError
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.meta_gradients import maml
from metawarp.texts.lower_layers import LowerLayers

BOTH = InnerLoop(2, GROUPS)
LATE = {"prompt_layer": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("backbone"), layers=3)


@pytest.fixture(scope="module")
def tiny(folder):
    return Backbone.load(folder, dtype="float64")


@pytest.fixture
def counted(tiny, monkeypatch):
    """How many texts went through the layers below."""
    texts = []
    real = type(tiny).through

    def through(self, entering, mask, first, end, **named):
        if first == 0:
            texts.append(len(entering))
        return real(self, entering, mask, first, end, **named)

    monkeypatch.setattr(type(tiny), "through", through)
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
    first, state = tiny_model(backbone, **template)
    late, _ = tiny_model(backbone, **template, prompt_layer=2)
    for one, other in zip(
        query_logits(first, state, tiny_episodes()), query_logits(late, state, tiny_episodes()), strict=True
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def test_the_layers_below_see_no_soft_token_and_those_above_do(tiny):
    warp, state = tiny_model(tiny, **LATE)
    episodes = tiny_episodes()
    moved = {**state, "prompt": state["prompt"] + 1}
    assert not torch.allclose(query_logits(warp, state, episodes)[0], query_logits(warp, moved, episodes)[0])
    batch = warp.encoder(["set the alarm"])
    entering = warp.lower(batch)
    bare = warp.encoder.tokenizer("set the alarm")["input_ids"]
    with_mask = torch.tensor([[*bare[:-1], tiny.tokenizer.mask_token_id, bare[-1]]])
    expected = tiny.through(tiny.word_embeddings[with_mask], torch.ones(with_mask.shape), 0, 1)
    assert torch.allclose(entering[batch.prompt_index < 0], expected[0], rtol=0, atol=1e-12)
    assert (entering[batch.prompt_index >= 0] == 0).all()


def test_tasks_at_once_are_one_by_one(tiny):
    warp, state = tiny_model(tiny, BOTH, **LATE)
    episodes = tiny_episodes()
    together = query_logits(warp, state, episodes, BOTH)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(logits, query_logits(warp, state, [episode], BOTH)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("read_out", ["mask", "mean+mask"])
def test_second_order_is_exact(tiny, read_out):
    """Both ways agree, and with central differences of the loss along a direction of the prompt."""
    warp, state = tiny_model(tiny, BOTH, learn=True, read_out=read_out, **LATE)
    tasks = TaskBatch.encode(tiny_episodes(), warp.encoder)
    found = {mode: maml(warp, state, tasks, BOTH, mode=mode) for mode in ("unroll", "recompute")}
    way = torch.randn(state["prompt"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = [
        float(maml(warp, {**state, "prompt": state["prompt"] + h * way}, tasks, BOTH, mode="unroll").losses.mean())
        for h in (-1e-5, 1e-5)
    ]
    expected = (ends[1] - ends[0]) / 2e-5
    for one in found.values():
        assert float((one.gradients["prompt"] * way).sum()) == pytest.approx(expected, rel=1e-6)
    for name, gradient in found["unroll"].gradients.items():
        assert torch.allclose(found["recompute"].gradients[name], gradient, rtol=1e-9, atol=1e-12), name


def test_soft_tokens_start_as_the_layers_below_leave_them(tiny):
    config = WarpConfig(template="{text} {prompt:'set the'} {mask}", prompt_layer=2)
    warp = Warp(tiny, config)
    found = Init.start(warp, InnerLoop(0, ())).tensors["prompt"]
    ids = torch.tensor([warp.encoder.tokenizer(f"set the {tiny.tokenizer.mask_token}")["input_ids"]])
    expected = tiny.through(tiny.word_embeddings[ids], torch.ones(ids.shape), 0, 2)[0, 1:3]
    assert torch.allclose(found, expected.float(), atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_there_is_not_is_refused(tiny, layer):
    with pytest.raises(InputError, match=f"^prompt_layer is {layer}; backbone '.+' has the layers 0 to 2.$"):
        Warp(tiny, WarpConfig(prompt_layer=layer))


def test_an_init_keeps_its_layer(tiny, tmp_path):
    Init.start(Warp(tiny, WarpConfig(prompt_layer=2)), InnerLoop(0, ())).save(tmp_path)
    assert Init.load(tmp_path).bind(tiny).config.prompt_layer == 2


# What is held in memory ---------------------------------------------------------------------------------------


def test_a_text_goes_through_the_layers_below_once(tiny, counted):
    warp, state = tiny_model(tiny, BOTH, **LATE)
    counted.clear()
    episodes = tiny_episodes()
    query_logits(warp, state, episodes, BOTH)
    texts = {t for e in episodes for t in (*e.support_texts, *e.query_texts, *e.class_names)}
    assert sum(counted) == len(texts)
    query_logits(warp, state, episodes, BOTH)
    assert sum(counted) == len(texts)


def test_memory_is_bounded_and_the_longest_unused_go_first(tiny, counted):
    warp, _ = tiny_model(tiny, **LATE)
    texts = ["set the alarm", "play music", "pay my bill"]
    one = warp.lower(warp.encoder(texts[:1])).detach()
    cached = warp.lower.cache._bytes
    small = LowerLayers(tiny, 1, limit=3 * cached)
    for text in (*texts, "rain today", texts[2]):
        small(warp.encoder([text]))
    assert small.cache._bytes == sum(states.nbytes for states in small.cache._tensors.values()) <= 3 * cached
    counted.clear()
    small(warp.encoder(texts[2:]))
    assert not counted
    assert torch.equal(small(warp.encoder(texts[:1])), one)
    assert counted == [1]


def test_a_batch_larger_than_the_memory_is_whole(tiny):
    warp, _ = tiny_model(tiny, **LATE)
    batch = warp.encoder(corpus_texts())
    assert torch.allclose(LowerLayers(tiny, 1, limit=1)(batch), warp.lower(batch), rtol=0, atol=1e-12)


# What is kept in a file ---------------------------------------------------------------------------------------


def test_a_file_serves_a_second_run(tiny, tmp_path, counted):
    first, state = tiny_model(tiny, BOTH, **LATE)
    expected = query_logits(first, state, tiny_episodes(), BOTH)
    first.remember(corpus_texts(), tmp_path / "cache")
    second, _ = tiny_model(tiny, BOTH, **LATE)
    counted.clear()
    second.remember(corpus_texts(), tmp_path / "cache")
    for one, other in zip(query_logits(second, state, tiny_episodes(), BOTH), expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert not counted
    second.lower(second.encoder(["never seen before"]))
    assert counted == [1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_holds_the_numbers_that_are_computed(folder, tmp_path, dtype):
    backbone = Backbone.load(folder, dtype=dtype)
    warp = Warp(backbone, WarpConfig(prompt_layer=1))
    warp.remember(corpus_texts(), tmp_path)
    batch = warp.encoder(corpus_texts()[:9])
    assert warp.lower(batch).dtype == backbone.dtype
    fresh = LowerLayers(backbone, 1)
    assert torch.allclose(warp.lower(batch).float(), fresh(batch).float(), atol=1e-5 if dtype == "float32" else 0.05)


def damage_truncate(content):
    return content[:-1]


def damage_one_bit(content):
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def damage_empty(content):
    return b""


@pytest.mark.parametrize("damage", [damage_truncate, damage_one_bit, damage_empty])
def test_a_damaged_file_is_made_again(tiny, tmp_path, damage, counted, caplog):
    warp, _ = tiny_model(tiny, **LATE)
    warp.remember(corpus_texts(), tmp_path)
    file = cache_file(tmp_path)
    good = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(good))
    counted.clear()
    again, _ = tiny_model(tiny, **LATE)
    counted.clear()
    with caplog.at_level(logging.WARNING):
        again.remember(corpus_texts(), tmp_path)
    assert sum(counted) == len(corpus_texts())
    assert cache_file(tmp_path).read_bytes() == good
    assert damage is damage_empty or "is made again" in caplog.text


def test_what_another_backbone_layer_template_or_corpus_left_is_not_taken(tiny, tmp_path, counted):
    def files(backbone=tiny, texts=None, **config):
        warp, _ = tiny_model(backbone, **{**LATE, **config})
        counted.clear()
        warp.remember(texts or corpus_texts(), tmp_path / "cache")
        assert counted
        return len(list((tmp_path / "cache").iterdir()))

    assert files() == 1
    assert files(prompt_layer=2) == 2
    assert files(template="{text} was {prompt:1} {mask}") == 3
    assert files(texts=corpus_texts()[1:]) == 4
    assert files(tiny_backbone(tmp_path / "other", layers=3, seed=1)) == 5


def test_a_file_under_the_name_of_another_is_not_believed(tiny, tmp_path):
    one, _ = tiny_model(tiny, **LATE)
    one.remember(corpus_texts(), tmp_path)
    wrong = cache_file(tmp_path).read_bytes()
    cache_file(tmp_path).unlink()
    other, _ = tiny_model(tiny, prompt_layer=2)
    other.remember(corpus_texts(), tmp_path)
    file = cache_file(tmp_path)
    right = file.read_bytes()
    file.unlink()
    file.write_bytes(wrong)
    again, _ = tiny_model(tiny, prompt_layer=2)
    again.remember(corpus_texts(), tmp_path)
    assert file.read_bytes() == right


def test_two_processes_share_a_folder(folder, tmp_path):
    code = (
        "import sys; from metawarp import Backbone, Warp, WarpConfig; from tiny import tiny_corpus\n"
        "warp = Warp(Backbone.load(sys.argv[1]), WarpConfig(prompt_layer=1))\n"
        "warp.remember(tiny_corpus().texts, sys.argv[2]); print(float(warp.lower._mapped.double().sum()))\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path)]
    running = [
        subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0] == printed[1]
    cache_file(tmp_path)


def test_a_folder_that_cannot_be_written_ends_in_one_sentence(tiny, tmp_path):
    (tmp_path / "file").touch()
    warp, _ = tiny_model(tiny, **LATE)
    with pytest.raises(InputError, match=r"^cache folder '.+file' cannot be written \(.+\); name another folder, or"):
        warp.remember(corpus_texts(), tmp_path / "file")


def test_a_file_that_cannot_be_read_back_is_no_cache(tiny, tmp_path, monkeypatch):
    warp, _ = tiny_model(tiny, **LATE)
    monkeypatch.setattr(LowerLayers, "_map", lambda *_: False)
    with pytest.raises(
        InputError, match="^cache file '.+' cannot be read back; name another folder, or leave it out.$"
    ):
        warp.remember(corpus_texts(), tmp_path)


def test_a_full_disk_ends_in_one_sentence_and_leaves_nothing(tiny, tmp_path):
    warp, _ = tiny_model(tiny, **LATE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(InputError, match=r"^cache folder '.+' cannot be written \(File too large; room is needed"):
            warp.remember(corpus_texts(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_sound_file_in_a_folder_that_cannot_be_written_serves(tiny, tmp_path, counted, monkeypatch):
    warp, _ = tiny_model(tiny, **LATE)
    warp.remember(corpus_texts(), tmp_path)
    tmp_path.chmod(0o555)
    monkeypatch.setattr(LowerLayers, "_write", None)  # root may write anywhere
    again, _ = tiny_model(tiny, **LATE)
    counted.clear()
    again.remember(corpus_texts(), tmp_path)
    tmp_path.chmod(0o755)
    assert not counted


def test_a_cache_without_layers_below_is_refused(tiny, tmp_path):
    warp, _ = tiny_model(tiny)
    with pytest.raises(InputError, match="^a cache is for what lies below the prompt, and nothing lies below layer 0"):
        warp.remember(corpus_texts(), tmp_path)


def test_a_file_is_as_open_to_others_as_any_other(tiny, tmp_path):
    warp, _ = tiny_model(tiny, **LATE)
    warp.remember(corpus_texts(), tmp_path / "cache")
    (tmp_path / "other").touch()
    assert cache_file(tmp_path / "cache").stat().st_mode == (tmp_path / "other").stat().st_mode
