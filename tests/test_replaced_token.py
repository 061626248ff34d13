"""Discriminators: class embeddings are words in the place of [MASK], and logits say how original they look there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from running import refused
from tiny import NO_STEPS, central_differences, query_logits, tiny_corpus, tiny_episodes, tiny_folder, tiny_model

from episodes import Episode
from metawarp import Backbone, Init, TrainingConfig, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.adapt import step
from metawarp.adaptation.memory import unrolled_bytes
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.run_folder import read_log

REPLACED = {"read_out": "replaced_token", "verbalizer": "replaced_token", "name_source": "embeddings"}
TEMPLATE = "{prompt:2} {text} about {mask} {prompt:1}"
RATES = InnerLearningRates(0.3, 0.2)
TRAINING = {"n_way": 2, "k_shot": 2, "n_query": 3, "model": WarpConfig(template=TEMPLATE, **REPLACED)}


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
    return tiny_model(electra, inner, **{"template": TEMPLATE, **REPLACED, **settings})


def test_the_logits_are_what_the_model_says_of_class_words(electra):
    warp, init = model(electra, template="{text} about {mask} .")
    names, texts = ("music", "rain", "card"), ["play my alarm", "is it cold and wet outside in the market?"]
    found = query_logits(warp, init, [Episode.from_texts(names, [], [], texts, [0, 1])])[0]
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
    warp, init = model(electra)
    tasks = TaskBatch.encode([Episode.from_texts(("music light", "rain"), ["sun"], [0])], warp.encoder)
    found = start(warp, init, tasks)[0].class_embeddings[0]
    words = electra.word_embeddings[electra.tokenizer.convert_tokens_to_ids(["music", "light", "rain"])]
    assert torch.allclose(found, torch.stack([words[:2].mean(0), words[2]]))


def test_tasks_and_passes_do_not_change_each_other(electra):
    warp, init = model(electra)
    episodes = [*tiny_episodes(2), *tiny_episodes(1, n_way=2, seed=1)]
    together = query_logits(warp, init, episodes)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(query_logits(warp, init, [episode])[0], logits, rtol=0, atol=1e-10)
    small = Backbone.load(electra.source, dtype="float64", max_tokens=20)
    other, _ = model(small)
    for logits, again in zip(together, query_logits(other, init, episodes), strict=True):
        assert torch.allclose(logits, again, rtol=0, atol=1e-10)


def test_the_inner_loop_updates_the_class_embeddings_inside_the_texts(electra):
    inner = InnerLoop(1, ("class_embeddings",))
    warp, init = model(electra, inner, rates=RATES)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    before, features = start(warp, init, tasks, inner.updates)
    assert features is None
    after = step(warp, init, before, tasks.support, tasks, inner, 0)

    def loss(parameters):
        return losses_of(warp, parameters, read_texts(warp, parameters, tasks.support), tasks.support, tasks).sum()

    (slope,) = torch.autograd.grad(loss(before), before.class_embeddings)
    assert slope.abs().max() > 1e-4
    assert torch.allclose(after.class_embeddings, before.class_embeddings - 0.2 * slope)
    assert loss(after) < loss(before)


@pytest.mark.parametrize(
    ("updates", "rate"),
    [(GROUPS, "log_adapter_lr"), (GROUPS[1:], "log_class_embedding_lr"), (GROUPS[:1], "log_adapter_lr")],
    ids=["both", "class embeddings", "adapter"],
)
def test_second_order_is_the_slope_of_the_query_loss(electra, updates, rate):
    inner = InnerLoop(2, updates)
    warp, init = model(electra, inner, rates=RATES, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(1), warp.encoder)
    batch = MetaBatch(warp, tasks, inner, last_step(2))
    ways = [METHODS["maml"].meta_gradient(init, replace(batch, second_order=way)) for way in ("unroll", "recompute")]
    for name in ("adapter", rate, "log_scale"):
        entries, slopes = central_differences(warp, init, tasks, inner, name)
        for found in ways:
            gradient = tensors_of(found.gradients)[name].reshape(-1)[torch.from_numpy(entries)]
            assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().max() > 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(name for name, method in METHODS.items() if not method.learns_corpus_classes))
def test_every_method_with_tasks_learns_it(tmp_path, method):
    backbone = discriminator(tmp_path / "backbone", "float32")
    settings = TrainingConfig(steps=30, meta_batch_size=2, lr=0.02, validate_every=30, validation_episodes=2)
    folder = tmp_path / "init"
    init = train(tiny_corpus(), str(folder), backbone=backbone, method=method, training=settings, **TRAINING)
    losses = [entry["loss"] for entry in read_log(folder)]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
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
    short, long = "play music", "play music today and turn the light on in the market please"
    episode = Episode.from_texts(("music", "rain"), [], [], [short, long], [0, 1])
    expected, found = (query_logits(warp, init, [episode])[0] for warp in (whole, cut))
    assert torch.allclose(found[0], expected[0], rtol=0, atol=1e-10)
    windows, _ = cut.encoder.windows(cut.encoder([long]))
    assert len(windows) > 2
    current = start(cut, init, TaskBatch.encode([episode], cut.encoder))[0]
    each = whole.read(current, windows, torch.zeros(len(windows), dtype=torch.long))
    assert torch.allclose(found[1], each.mean(0), rtol=0, atol=1e-10)


def test_a_plain_read_out_of_a_discriminator_is_its_hidden_init(electra):
    assert electra.masked_lm_head is None
    assert electra.feature_size == electra.hidden_size
    assert electra.mask_features(torch.ones(1, 32, dtype=torch.float64)).equal(torch.ones(1, 32, dtype=torch.float64))


def test_models_that_do_not_support_it_are_refused(electra, tiny):
    with refused("read_out='replaced_token'", "discriminator", tiny.name):
        Warp(tiny, TRAINING["model"])
    with refused("adapter='prompt'", "adapter='deep_prompt'"):
        model(electra, adapter="deep_prompt")
    with refused("adapter_layer=0", "adapter_layer=1"):
        model(electra, adapter_layer=1)
    with refused("name_source='embeddings'", "name_source='template'"):
        model(electra, name_source="template")


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"verbalizer": "regression"}, ["read_out='replaced_token'", "verbalizer='regression'"]),
        ({"read_out": "mean"}, ["read_out='mean'", "verbalizer='replaced_token'"]),
        ({"template": "{text}"}, ["read_out='replaced_token'", "{mask}", "template='{text}'"]),
        ({"read_out": "replaced_token+text"}, ["read_out='replaced_token+text'", "mask, debiased_mask, mean"]),
    ],
    ids=str,
)
def test_settings_that_do_not_belong_together_are_refused(settings, facts):
    with refused(*facts):
        WarpConfig(**{**REPLACED, **settings})


def test_what_needs_features_is_refused(electra, tmp_path):
    folder = str(tmp_path / "init")
    with refused("regularizer='scal'", "read_out='replaced_token'", "'sift'"):
        train(tiny_corpus(), folder, backbone=electra, training=TrainingConfig(regularizer="scal"), **TRAINING)
    with refused("method='multitask'", "read_out='replaced_token'"):
        train(tiny_corpus(), folder, backbone=electra, method="multitask", **TRAINING)
    classifier = WarpClassifier(Init.start(Warp(electra, TRAINING["model"]), NO_STEPS), electra)
    with refused("verbalizer='replaced_token'", "class_names"):
        classifier.fit(["play music", "rain today"], [0, 1])
    with refused("read_out='replaced_token'"):
        classifier.fit(["play music", "rain today"], ["music", "rain"]).save_onnx(tmp_path / "task.onnx")
