"""Discriminators: rows are words in the place of [MASK], and the logits are how original they look there."""

import numpy as np
import pytest
import torch
import transformers
from running import log_of, refused
from tiny import NO_STEPS, central_differences, query_logits, tiny_corpus, tiny_episodes, tiny_folder, tiny_model

from episodes import Episode
from metawarp import Backbone, Init, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.adapt import read, reads_again, start, step, task_logits
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.adaptation.memory import unrolled_bytes
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.engines import has_modes
from metawarp.meta_learning.implicit import imaml
from metawarp.meta_learning.learn2learn_engine import meta_gradient
from metawarp.meta_learning.meta_gradients import METHODS, maml
from metawarp.meta_learning.second_order import recompute, unroll
from metawarp.training.config import TrainingConfig

ORIGINAL = {"read_out": "original", "rows": "names", "name_source": "embeddings"}
TEMPLATE = "{prompt:2} {text} about {mask} {prompt:1}"
RATES = InnerRates(prompt=0.3, rows=0.2)


def discriminator(folder, dtype="float64"):
    """A tiny ELECTRA with its replaced-token head, as it is published."""
    config = transformers.ElectraConfig.from_pretrained(tiny_folder(folder, "electra"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ElectraForPreTraining(config).save_pretrained(folder)
    return Backbone.load(folder, dtype=dtype)


@pytest.fixture(scope="module")
def electra(tmp_path_factory):
    return discriminator(tmp_path_factory.mktemp("electra"))


def model(electra, inner=NO_STEPS, **settings):
    return tiny_model(electra, inner, **{"template": TEMPLATE, **ORIGINAL, **settings})


def test_the_logits_are_what_the_model_says_of_class_words(electra):
    warp, state = model(electra, template="{text} about {mask} .")
    names, texts = ("music", "rain", "card"), ["play my alarm", "is it cold and wet outside in the market?"]
    found = query_logits(warp, state, [Episode.from_texts(names, [], [], texts, [0, 1])])[0]
    theirs = transformers.ElectraForPreTraining.from_pretrained(electra.source, dtype=torch.float64).eval()
    tokenizer = electra.tokenizer
    for text, logits in zip(texts, found, strict=True):
        for name, logit in zip(names, logits, strict=True):
            ids = tokenizer(f"{text} about {name} .", return_tensors="pt")["input_ids"]
            (place,) = torch.where(ids[0] == tokenizer.convert_tokens_to_ids(name))
            assert len(place) == 1
            with torch.no_grad():
                expected = -theirs(ids).logits[0, place[0]]
            assert torch.allclose(logit, expected, rtol=0, atol=1e-10)


def test_a_name_of_several_tokens_is_the_mean_of_their_embeddings(electra):
    warp, state = model(electra)
    tasks = TaskBatch.encode([Episode.from_texts(("music light", "rain"), ["sun"], [0])], warp.encoder)
    rows = start(warp, state, tasks)[0]["rows"][0]
    ids = electra.tokenizer.convert_tokens_to_ids(["music", "light", "rain"])
    words = electra.word_embeddings[ids]
    assert torch.allclose(rows, torch.stack([words[:2].mean(0), words[2]]))


def test_tasks_and_passes_do_not_change_each_other(electra):
    warp, state = model(electra)
    episodes = [*tiny_episodes(2), *tiny_episodes(1, n_way=2, seed=1)]
    together = query_logits(warp, state, episodes)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(query_logits(warp, state, [episode])[0], logits, rtol=0, atol=1e-10)
    small = Backbone.load(electra.source, dtype="float64", max_tokens=20)
    other, _ = model(small)
    for logits, again in zip(together, query_logits(other, state, episodes), strict=True):
        assert torch.allclose(logits, again, rtol=0, atol=1e-10)


def test_the_inner_loop_moves_the_rows_inside_the_texts(electra):
    inner = InnerLoop(1, ("rows",))
    warp, state = model(electra, inner, rates=RATES)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    current, features = start(warp, state, tasks, inner.groups)
    assert features is None
    moved = step(warp, state, current, tasks.support, tasks, inner, 0)

    def loss(rows):
        logits = task_logits(warp, current, read(warp, {**current, "rows": rows}, tasks.support), tasks.support, tasks)
        counts = torch.bincount(tasks.support.task)[tasks.support.task]
        return (torch.nn.functional.cross_entropy(logits, tasks.support.label, reduction="none") / counts).sum()

    (slope,) = torch.autograd.grad(loss(current["rows"]), current["rows"])
    assert slope.abs().max() > 1e-4
    assert torch.allclose(moved["rows"], current["rows"] - 0.2 * slope)
    assert loss(moved["rows"]) < loss(current["rows"])


@pytest.mark.parametrize("groups", [("prompt", "rows"), ("rows",), ("prompt",)], ids="+".join)
def test_second_order_is_the_slope_of_the_query_loss(electra, groups):
    inner = InnerLoop(2, groups)
    warp, state = model(electra, inner, rates=RATES, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    found = maml(warp, state, tasks, inner)
    for name in ("prompt", f"log_inner_lr.{groups[0]}", "log_scale"):
        entries, slopes = central_differences(warp, state, tasks, inner, name)
        gradient = found.gradients[name].reshape(-1)[torch.from_numpy(entries)]
        assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().max() > 1e-7


def test_the_other_ways_to_the_same_gradient(electra):
    inner = InnerLoop(2, ("prompt", "rows"))
    warp, state = model(electra, inner, rates=RATES, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    expected = unroll(warp, state, tasks, inner).gradients
    for found in (recompute(warp, state, tasks, inner), meta_gradient(warp, state, tasks, inner)):
        for name, gradient in expected.items():
            assert torch.allclose(found.gradients[name], gradient, rtol=1e-6, atol=1e-10), name


def test_the_implicit_gradient_is_finite_and_not_zero(electra):
    inner = InnerLoop(3, ("prompt", "rows"), proximal=2.0)
    warp, state = model(electra, inner, rates=RATES, learn=True)
    found = imaml(warp, state, TaskBatch.encode(tiny_episodes(2), warp.encoder), inner)
    assert found.gradients["prompt"].isfinite().all() and found.gradients["prompt"].abs().max() > 0


@pytest.mark.parametrize("method", sorted(name for name, method in METHODS.items() if not method.class_rows))
def test_every_method_with_tasks_learns_it(tmp_path, method):
    backbone = discriminator(tmp_path / "backbone", "float32")
    settings = TrainingConfig(steps=30, meta_batch=2, lr=0.02, validate_every=30, validation_episodes=2)
    config = WarpConfig(template=TEMPLATE, **ORIGINAL)
    init = train(
        tiny_corpus(), tmp_path / "init", backbone=backbone, method=method, n_way=2, k_shot=2, n_query=3,
        warp=config, training=settings,
    )  # fmt: skip
    losses = [entry["loss"] for entry in log_of(tmp_path / "init")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    fitted = WarpClassifier(init, backbone).fit(["play music", "rain today"], ["music", "rain"])
    fitted.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", backbone)
    assert loaded.predict_proba(["some music"]) == pytest.approx(fitted.predict_proba(["some music"]), abs=1e-6)
    assert Init.load(tmp_path / "init").warp.read_out == "original"


def test_what_rows_inside_the_texts_take_is_known(electra):
    rows = InnerLoop(2, ("rows",))
    warp, _ = model(electra, rows, rates=RATES)
    plain, _ = tiny_model(electra, InnerLoop(2, ("prompt",)), rates=RATES, template=TEMPLATE)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    assert reads_again(warp, rows) and not reads_again(plain, rows)
    assert has_modes("metawarp", "maml", warp, rows) and not has_modes("metawarp", "maml", plain, rows)
    assert unrolled_bytes(warp, tasks, rows) == 3 * unrolled_bytes(plain, tasks, InnerLoop(2, ("prompt",)))


def test_long_texts_are_read_in_windows(electra):
    whole, state = model(electra)
    cut, _ = model(electra, max_length=12, stride=3)
    short, long = "play music", "play music today and turn the light on in the market please"
    episode = Episode.from_texts(("music", "rain"), [], [], [short, long], [0, 1])
    expected, found = (query_logits(warp, state, [episode])[0] for warp in (whole, cut))
    assert torch.allclose(found[0], expected[0], rtol=0, atol=1e-10)
    windows, _ = cut.encoder.windows(cut.encoder([long]))
    tasks = TaskBatch.encode([episode], cut.encoder)
    current = start(cut, state, tasks)[0]
    each = cut.replaced(current["prompt"], current["rows"], windows, torch.zeros(len(windows), dtype=torch.long))
    assert len(windows) > 2
    assert torch.allclose(found[1], each.mean(0), rtol=0, atol=1e-10)


def test_a_plain_read_out_of_a_discriminator_is_its_hidden_state(electra):
    assert electra.head is None
    assert electra.feature_size == electra.hidden_size
    assert electra.mask_features(torch.ones(1, 32, dtype=torch.float64)).equal(torch.ones(1, 32, dtype=torch.float64))


def test_what_cannot_be_read_so_is_refused(electra, tiny, tmp_path):
    config = WarpConfig(template=TEMPLATE, **ORIGINAL)
    with refused(
        f"read-out 'original' asks whether a class's word was replaced, which backbone {tiny.name!r} was not trained "
        "to tell; use a discriminator, such as google/electra-base-discriminator, or another read-out."
    ):
        Warp(tiny, config)
    with refused("read-out 'original' puts rows among soft tokens at the input; use form input at layer 0."):
        model(electra, form="deep")
    with refused("read-out 'original' puts rows among soft tokens at the input; use form input at layer 0."):
        model(electra, prompt_layer=1)
    with refused(
        "read-out 'original' scores the word of each class, so it needs rows names and name_source embeddings; "
        "this has rows regression and name_source template."
    ):
        WarpConfig(read_out="original")
    with refused(
        "template '{text}' has no {mask}, which read-out 'original' needs; add {mask}, or use the read-out mean."
    ):
        WarpConfig(**{**ORIGINAL, "template": "{text}"})
    with refused(
        "read_out is 'original+text'; it can be mask, mean, text, text-1, text-2, …, or several of them, each once, "
        "with + between; or original."
    ):
        WarpConfig(read_out="original+text")
    with refused(
        "regularizer scal compares what is read of texts, which read-out 'original' does not give; take sift."
    ):
        train(
            tiny_corpus(), tmp_path / "init", backbone=electra, method="prototypical", n_way=2, k_shot=2, n_query=3,
            warp=config, training=TrainingConfig(regularizer="scal"),
        )  # fmt: skip
    with refused(
        "method 'multitask' classifies all training classes at once, and read-out 'original' would read a text once "
        "for each; take another method or read-out."
    ):
        train(
            tiny_corpus(),
            tmp_path / "init",
            backbone=electra,
            method="multitask",
            n_way=2,
            k_shot=2,
            n_query=3,
            warp=config,
        )
    init = Init.start(Warp(electra, config), InnerLoop(0, ()))
    fitted = WarpClassifier(init, electra).fit(["play music", "rain today"], ["music", "rain"])
    with refused("a graph reads each text once, and read-out 'original' once for each class; take another."):
        fitted.save_onnx(tmp_path / "task.onnx")
    with refused("read-out 'original' reads the words of the classes; give class names."):
        WarpClassifier(init, electra).fit(["play music", "rain today"], [0, 1])
