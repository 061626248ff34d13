"""Discriminators: a class embedding takes the place of [MASK], and the logit says how original it looks there."""

from typing import Any

import pytest
import torch
import transformers
from marks import slow_except
from running import refused
from tiny import (
    NO_STEPS,
    assert_second_order_is_exact,
    query_logits,
    tiny_corpus,
    tiny_episodes,
    tiny_folder,
    tiny_model,
)
from torch.testing import assert_close
from trainings import loss_falls

from episodes import Episode
from metawarp import Backbone, Init, TrainingConfig, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.memory import unrolled_bytes
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.adaptation.support_steps import SupportSteps
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.table import METHODS
from metawarp.texts.task_batch import TaskBatch

REPLACED: dict[str, Any] = {"read_out": "replaced_token", "verbalizer": "replaced_token", "name_source": "embeddings"}
TEMPLATE = "{prompt:2} {text} about {mask} {prompt:1}"
RATES = InnerLearningRates(0.3, 0.2)
MODEL = WarpConfig(template=TEMPLATE, **REPLACED)
TRAINING: dict[str, Any] = {"n_way": 2, "k_shot": 2, "n_query": 3, "model": MODEL}


@pytest.fixture(scope="module")
def electra(tmp_path_factory):
    """A tiny ELECTRA with its replaced-token head, float64."""
    folder = tiny_folder(tmp_path_factory.mktemp("electra"), "electra")
    config = transformers.ElectraConfig.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ElectraForPreTraining(config).save_pretrained(folder)
    return Backbone.load(folder, dtype="float64")


def model(electra, inner=NO_STEPS, **settings):
    return tiny_model(electra, inner, **{"template": TEMPLATE, **REPLACED, **settings})


def test_the_logits_are_the_scores_of_the_class_words_by_transformers(electra):
    warp, init = model(electra, template="{text} about {mask} .")
    names, texts = ("music", "rain", "card"), ["play my alarm", "is it cold and wet outside in the market?"]
    found = query_logits(warp, init, [Episode.from_texts(names, [], [], texts, [0, 1])])[0]
    theirs = transformers.ElectraForPreTraining.from_pretrained(electra.source, dtype=torch.float64).eval()
    tokenizer = electra.tokenizer
    for text, logits in zip(texts, found, strict=True):
        for name, logit in zip(names, logits, strict=True):
            ids = tokenizer(f"{text} about {name} .", return_tensors="pt")["input_ids"]
            ((position,),) = torch.where(ids[0] == tokenizer.convert_tokens_to_ids(name))
            with torch.no_grad():
                assert_close(logit, -theirs(ids).logits[0, position], rtol=0, atol=1e-10)


def test_a_name_of_several_tokens_is_the_mean_of_their_embeddings(electra):
    warp, init = model(electra)
    tasks = TaskBatch.encode([Episode.from_texts(("music light", "rain"), ["sun"], [0])], warp.encoder)
    found = start(warp, init, tasks)[0].class_embeddings[0]
    words = electra.word_embeddings[electra.tokenizer.convert_tokens_to_ids(["music", "light", "rain"])]
    assert_close(found, torch.stack([words[:2].mean(0), words[2]]))


def test_tasks_and_passes_do_not_change_each_other(electra):
    warp, init = model(electra)
    episodes = [*tiny_episodes(2), *tiny_episodes(1, n_way=2, seed=1)]
    together = query_logits(warp, init, episodes)
    alone = [query_logits(warp, init, [episode])[0] for episode in episodes]
    assert_close(together, alone, rtol=0, atol=1e-10)
    in_small_passes, _ = model(Backbone.load(electra.source, dtype="float64", max_tokens=20))
    assert_close(query_logits(in_small_passes, init, episodes), together, rtol=0, atol=1e-10)


def test_the_inner_loop_updates_the_class_embeddings_inside_the_texts(electra):
    inner = InnerLoop(1, ("class_embeddings",))
    warp, init = model(electra, inner, rates=RATES)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    before, examples = start(warp, init, tasks, inner.updates)
    assert examples.support is None
    after, _ = SupportSteps(warp, init, tasks, inner).step(before, tasks.support, 0)

    def loss(parameters):
        return losses_of(warp, parameters, read_texts(warp, parameters, tasks.support), tasks.support, tasks).sum()

    (gradient,) = torch.autograd.grad(loss(before), before.class_embeddings)
    assert gradient.abs().max() > 1e-4
    assert_close(after.class_embeddings, before.class_embeddings - 0.2 * gradient)
    assert loss(after) < loss(before)


@pytest.mark.parametrize(
    ("updates", "rate"),
    [(GROUPS, "log_adapter_lr"), (GROUPS[1:], "log_class_embedding_lr"), (GROUPS[:1], "log_adapter_lr")],
    ids=["both", "class embeddings", "adapter"],
)
def test_second_order_is_exact(electra, updates, rate):
    inner = InnerLoop(2, updates)
    warp, init = model(electra, inner, rates=RATES, learn=True)
    names = ("adapter", rate, "log_scale")
    assert_second_order_is_exact(warp, init, inner, names, modes=("unroll", "recompute"))


@pytest.mark.parametrize(
    "method", slow_except("anil", sorted(name for name in METHODS if not METHODS[name].learns_corpus_classes))
)
def test_every_method_that_learns_from_tasks_trains_the_read_out(electra, tmp_path, method):
    backbone = Backbone.load(electra.source)
    config = TrainingConfig(steps=20, meta_batch_size=2, lr=0.05, validate_every=20, validation_episodes=2)
    folder = tmp_path / "init"
    init = train(tiny_corpus(), str(folder), backbone=backbone, method=method, training=config, **TRAINING)
    assert loss_falls(folder, by=0)
    assert Init.load(folder).config.read_out == "replaced_token"
    fitted = WarpClassifier(init, backbone).fit(["play music", "rain today"], ["music", "rain"])
    fitted.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", backbone)
    assert loaded.predict_proba(["some music"]) == pytest.approx(fitted.predict_proba(["some music"]), abs=1e-6)


def test_class_embeddings_inside_the_texts_take_memory_for_each_class(electra):
    classes, adapter = InnerLoop(2, ("class_embeddings",)), InnerLoop(2, ("adapter",))
    warp, _ = model(electra, classes, rates=RATES)
    plain, _ = tiny_model(electra, adapter, rates=RATES, template=TEMPLATE)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    assert warp.reads_again(classes) and not plain.reads_again(classes)
    assert unrolled_bytes(warp, tasks, classes) == 3 * unrolled_bytes(plain, tasks, adapter)


def test_long_texts_are_read_in_windows(electra):
    whole, init = model(electra)
    cut, _ = model(electra, max_length=12, stride=3)
    long = "play music today and turn the light on in the market please"
    episode = Episode.from_texts(("music", "rain"), [], [], ["play music", long], [0, 1])
    expected, found = (query_logits(warp, init, [episode])[0] for warp in (whole, cut))
    assert_close(found[0], expected[0], rtol=0, atol=1e-10)
    windows, _ = cut.encoder.windows(cut.encoder([long]))
    assert len(windows) > 2
    current = start(cut, init, TaskBatch.encode([episode], cut.encoder))[0]
    each = whole.read(current, windows, torch.zeros(len(windows), dtype=torch.long))
    assert_close(found[1], each.mean(0), rtol=0, atol=1e-10)


def test_other_read_outs_read_the_hidden_states_of_a_discriminator(electra):
    hidden = torch.ones(1, 32, dtype=torch.float64)
    assert electra.masked_lm_head is None
    assert electra.feature_size == electra.hidden_size
    assert electra.mask_features(hidden).equal(hidden)


UNUSABLE: list[tuple[dict[str, Any], list[str]]] = [
    ({"adapter": "deep_prompt"}, ["adapter='prompt'", "adapter='deep_prompt'"]),
    ({"adapter_layer": 1}, ["adapter_layer=0", "adapter_layer=1"]),
    ({"name_source": "template"}, ["name_source='embeddings'", "name_source='template'"]),
    ({"verbalizer": "regression"}, ["read_out='replaced_token'", "verbalizer='regression'"]),
    ({"read_out": "mean"}, ["read_out='mean'", "verbalizer='replaced_token'"]),
    ({"template": "{text}"}, ["read_out='replaced_token'", "{mask}", "template='{text}'"]),
    ({"read_out": "replaced_token+text"}, ["read_out='replaced_token+text'", "mask, debiased_mask, mean"]),
]


@pytest.mark.parametrize(("settings", "facts"), UNUSABLE, ids=str)
def test_settings_that_do_not_support_the_read_out_are_refused(electra, settings, facts):
    with refused(*facts):
        model(electra, **settings)


def test_backbones_methods_and_exports_that_do_not_support_the_read_out_are_refused(electra, tiny, tmp_path):
    with refused("read_out='replaced_token'", "discriminator", tiny.name):
        Warp(tiny, MODEL)
    folder = str(tmp_path / "init")
    with refused("regularizer='scal'", "read_out='replaced_token'", "'sift'"):
        train(tiny_corpus(), folder, backbone=electra, training=TrainingConfig(regularizer="scal"), **TRAINING)
    with refused("method='multitask'", "read_out='replaced_token'"):
        train(tiny_corpus(), folder, backbone=electra, method="multitask", **TRAINING)
    classifier = WarpClassifier(Init.start(Warp(electra, MODEL), NO_STEPS), electra)
    with refused("verbalizer='replaced_token'", "class_names"):
        classifier.fit(["play music", "rain today"], [0, 1])
    with refused("read_out='replaced_token'"):
        classifier.fit(["play music", "rain today"], ["music", "rain"]).save_onnx(tmp_path / "task.onnx")
