"""Text prompts such as "query: ": they stand before every text, and inits and tasks remember them."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from running import refused
from sentence_encoders import PROMPTS, assert_same_embeddings, saved
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny import TEXTS, tiny_backbone, tiny_corpus

from metawarp import Backbone, TrainingConfig, Warp, WarpClassifier, WarpConfig, evaluate, train


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean"])
@pytest.mark.parametrize("prompt", ["query", "the text: ", None])
def test_a_prompt_is_put_before_every_text(tmp_path, mode, include_prompt, prompt):
    pooling = Pooling(32, mode, include_prompt=include_prompt)
    model, folder = saved(tmp_path, pooling, prompts=PROMPTS, default_prompt_name="classify")
    backbone = Backbone.load(folder, prompt=prompt)
    assert backbone.prompt == {"query": "query: ", None: "play: "}.get(prompt, prompt)
    assert_same_embeddings(model, backbone, prompt=backbone.prompt)


def test_without_a_default_there_is_no_prompt(tmp_path):
    model, folder = saved(tmp_path, Pooling(32), prompts=PROMPTS)
    assert Backbone.load(folder).prompt == ""
    assert_same_embeddings(model, Backbone.load(folder))


def test_a_task_remembers_the_prompt_that_it_was_fitted_with(tmp_path):
    _, folder = saved(tmp_path, Pooling(32, "cls"), prompts=PROMPTS)
    examples = ["play music", "set the alarm", "rain today", "cold weather"], ["music", "music", "rain", "rain"]
    classifier = WarpClassifier(backbone=str(folder), prompt="query").fit(*examples)
    assert classifier.task_.warp.backbone.prompt == "query: "
    classifier.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task")
    assert loaded.task_.warp.backbone.prompt == "query: "
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    without = WarpClassifier(backbone=str(folder)).fit(*examples)
    assert np.abs(without.predict_proba(TEXTS) - classifier.predict_proba(TEXTS)).max() > 1e-6
    with refused("the prompt 'query: '", "has ''", "prompt='query: '"):
        WarpClassifier.load(tmp_path / "task", Backbone.load(folder))


def test_a_prompt_that_is_not_pooled_leaves_an_empty_text_its_own_tokens(tmp_path):
    _, folder = saved(tmp_path, Pooling(32, ("mean", "max"), include_prompt=False))
    backbone = Backbone.load(folder, prompt="query: the text: ")
    hidden, places = torch.randn(2, 12, 32), torch.arange(12) < torch.tensor([[12], [3]])
    pooled = backbone.pooled(hidden, places)
    torch.testing.assert_close(pooled[1], torch.cat([hidden[1, :3].mean(0), hidden[1, :3].amax(0)]))
    assert torch.isfinite(pooled).all()


def test_training_and_evaluation_put_the_prompt_before_the_texts_of_a_loaded_backbone_too(tmp_path):
    _, folder = saved(tmp_path, Pooling(32), prompts=PROMPTS)
    backbone, corpus = Backbone.load(folder), tiny_corpus()
    settings: dict[str, Any] = {"n_way": 2, "k_shot": 1, "n_query": 2}
    training = TrainingConfig(steps=1, validation_episodes=2, meta_batch_size=1)
    init = train(corpus, tmp_path / "run", backbone=backbone, prompt="query", training=training, **settings)
    assert init.backbone.prompt == "query: "
    found, other = (
        evaluate(init, corpus, split="all", backbone=backbone, prompt=prompt, episodes=2, baselines="none", **settings)
        for prompt in ("query", "query: ")
    )
    assert found["methods"] == other["methods"]
    with refused("the prompt 'query: '", "has 'play: '"):
        evaluate(
            init, corpus, split="all", backbone=backbone, prompt="classify", episodes=2, baselines="none", **settings
        )


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"read_out": "mask", "name_source": "embeddings"}, ["name_source='embeddings'", "'query: '", "prompt=''"]),
        ({"stride": 8}, ["stride=8", "does not pool its prompt", "first window", "stride=0"]),
    ],
    ids=["names", "windows"],
)
def test_settings_that_a_prompt_would_disturb_are_refused(tmp_path, config, facts):
    _, folder = saved(tmp_path, Pooling(32, include_prompt=False), prompts=PROMPTS)
    masked = tiny_backbone(tmp_path / "masked", head=True)
    backbone = masked if "name_source" in config else Backbone.load(folder)
    Warp(backbone, WarpConfig(template="{prompt:2} {text} {mask}", **config))
    with refused(*facts):
        Warp(backbone.with_prompt("query: "), WarpConfig(template="{prompt:2} {text} {mask}", **config))


@pytest.mark.parametrize(
    ("prompts", "facts"),
    [(PROMPTS, ["no prompt 'qeury'", "query, classify", "prompt='query: '"]), ({}, ["no prompt 'qeury'", "no named"])],
    ids=["some", "none"],
)
def test_the_name_of_a_prompt_that_does_not_exist_is_refused(tmp_path, prompts, facts):
    _, folder = saved(tmp_path, Pooling(32), prompts=prompts)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}), encoding="utf-8")
    with refused(repr(str(folder)), *facts):
        Backbone.load(folder, prompt="qeury")
