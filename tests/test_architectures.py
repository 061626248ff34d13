"""Every type of backbone: prompts at any place, exact gradients, meta-training, and an init that is used again."""

import pytest
import torch
from marks import slow_except
from tiny import (
    MODELS,
    TEXTS,
    assert_second_order_is_exact,
    features,
    query_logits,
    tiny_backbone,
    tiny_corpus,
    tiny_episodes,
    tiny_model,
)
from torch.testing import assert_close
from trainings import loss_falls

from metawarp import Init, TrainingConfig, WarpClassifier, WarpConfig, train
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop

TYPES = sorted(MODELS)
PLACES = [
    "{prompt:3} {text} {mask}",
    "{text} {mask} {prompt:3}",
    "{mask} {prompt:1} {text} {prompt:2}",
    "{prompt:1} topic {prompt:'about it'} {text} was {mask} .",
]


@pytest.mark.parametrize("template", PLACES)
@pytest.mark.parametrize("model_type", TYPES)
def test_a_prompt_stands_anywhere_and_padding_changes_nothing(tmp_path, model_type, template):
    warp, init = tiny_model(tiny_backbone(tmp_path, model_type, head=True), template=template)
    prompt = init.adapter[None].requires_grad_()
    together = features(warp, init, TEXTS, prompt)
    for text, expected in zip(TEXTS, together, strict=True):
        assert_close(features(warp, init, [text], prompt)[0], expected, rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad((together**3).sum(), prompt)
    assert gradient.abs().sum(-1).min() > 1e-6, "each soft token must be seen by the text"


@pytest.mark.parametrize("model_type", slow_except("bert", TYPES))
def test_second_order_gradients_are_exact(tmp_path, exact, model_type):
    inner = InnerLoop(2, GROUPS)
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    warp, init = tiny_model(backbone, inner, learn=True, rates=InnerLearningRates(0.3, 0.2))
    assert_second_order_is_exact(warp, init, inner, ["adapter", "log_adapter_lr", "log_scale"], n_tasks=2)


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
@pytest.mark.parametrize("model_type", TYPES)
def test_a_meta_training_lowers_the_loss_and_saves_the_init_that_it_returns(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path / "backbone", model_type, head=head, dtype="float32")
    init = train(
        tiny_corpus(),
        str(tmp_path / "init"),
        backbone=backbone,
        method="fomaml",
        n_way=2,
        k_shot=2,
        n_query=3,
        model=WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask"),
        training=TrainingConfig(steps=40, meta_batch_size=2, lr=0.03, validate_every=40, validation_episodes=2),
    )
    assert loss_falls(tmp_path / "init", by=0)
    loaded = Init.load(tmp_path / "init")
    saved, again = (query_logits(one.bind(backbone), one.on(backbone), tiny_episodes(2)) for one in (init, loaded))
    assert_close(again, saved, rtol=0, atol=0)
    classifier = WarpClassifier(loaded, backbone=backbone).fit(["play music", "rain today"], ["music", "rain"])
    assert set(classifier.predict(["some music"])) <= {"music", "rain"}
