"""Every type of backbone: prompts at any place, exact gradients, meta-training, and an init that is used again."""

import pytest
import torch
from marks import slow, slow_except
from tiny import (
    DECODERS,
    MODELS,
    TEXTS,
    TYPES_AND_HEADS,
    WITH_HEAD,
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

CAUSAL = DECODERS
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
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD)
    warp, init = tiny_model(backbone, template=template)
    prompt = init.adapter[None].requires_grad_()
    together = features(warp, init, TEXTS, prompt)
    for text, expected in zip(TEXTS, together, strict=True):
        assert_close(features(warp, init, [text], prompt)[0], expected, rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad((together**3).sum(), prompt)
    seen = soft_tokens_before_what_is_read(warp) if model_type in CAUSAL else slice(None)
    assert (gradient[0].abs().sum(-1)[seen] > 1e-6).all(), "each soft token must be seen by what is read"


def soft_tokens_before_what_is_read(warp):
    """Indices of the soft tokens that some token that is read can see, if no token sees those after it."""
    batch = warp.encoder(TEXTS[:1])
    last = max(int(batch.mask_position), int(batch.text_mask[0].nonzero().max()))
    before = batch.prompt_index[0, :last]
    return before[before >= 0]


@pytest.mark.parametrize("model_type", slow_except("bert", TYPES))
def test_second_order_gradients_are_exact(tmp_path, exact, model_type):
    inner = InnerLoop(2, GROUPS)
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD)
    warp, init = tiny_model(backbone, inner, learn=True, rates=InnerLearningRates(0.3, 0.2))
    assert_second_order_is_exact(warp, init, inner, ["adapter", "log_adapter_lr", "log_scale"], n_tasks=2)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "head"), TYPES_AND_HEADS)
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


ONE_LAYER = [pair if pair in (("qwen3", False), ("mpnet", True)) else slow(*pair) for pair in TYPES_AND_HEADS]


@pytest.mark.parametrize(("model_type", "head"), ONE_LAYER)
def test_one_layer_is_enough_for_default_settings(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path / "backbone", model_type, head=head, layers=1, dtype="float32")
    quick = TrainingConfig(steps=2, meta_batch_size=1, validate_every=2, validation_episodes=2)
    init = train(tiny_corpus(), str(tmp_path / "init"), backbone=backbone, n_way=2, n_query=2, training=quick)
    for start in (init, None, "untrained"):
        classifier = WarpClassifier(start, backbone).fit(["play music", "rain today"], ["music", "rain"])
        assert set(classifier.predict(["some music", "rain"])) <= {"music", "rain"}
