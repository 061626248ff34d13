"""Every type of backbone all the way: prompts anywhere, gradients, meta-training, a saved init, and the table."""

import numpy as np
import pytest
import torch
from running import log_of
from tiny import (
    MODELS,
    central_differences,
    query_logits,
    tiny_backbone,
    tiny_corpus,
    tiny_episodes,
    tiny_model,
    weights_of,
)

from metawarp import Init, WarpClassifier, WarpConfig, train
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.meta_gradients import maml
from metawarp.training.config import TrainingConfig

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
    warp, state = tiny_model(tiny_backbone(tmp_path, model_type, head=True), template=template)
    texts = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]
    prompt = state["prompt"][None].requires_grad_()

    def read(texts):
        task = torch.zeros(len(texts), dtype=torch.long)
        return warp.features(prompt, weights_of(state), warp.encoder(texts), task)

    together = read(texts)
    for text, features in zip(texts, together, strict=True):
        assert torch.allclose(read([text])[0], features, rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad((together**3).sum(), prompt)
    assert slope.abs().sum(-1).min() > 1e-6, "each soft token must be seen by the text"


@pytest.mark.parametrize("model_type", TYPES)
def test_second_order_is_the_slope_of_the_query_loss(tmp_path, exact, model_type):
    inner = InnerLoop(2, ("prompt", "rows"))
    rates = InnerRates(prompt=0.3, rows=0.2)
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    warp, state = tiny_model(backbone, inner, learn=True, rates=rates)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    found = maml(warp, state, tasks, inner)
    for name in ("prompt", "log_inner_lr.prompt", "log_scale"):
        entries, slopes = central_differences(warp, state, tasks, inner, name)
        gradient = found.gradients[name].reshape(-1)[torch.from_numpy(entries)]
        assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().max() > 1e-7


@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
@pytest.mark.parametrize("model_type", TYPES)
def test_a_whole_meta_training_lowers_the_loss_and_its_init_is_used_again(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path / "backbone", model_type, head=head, dtype="float32")
    corpus = tiny_corpus()
    init = train(
        corpus,
        tmp_path / "init",
        backbone=backbone,
        method="fomaml",
        n_way=2,
        k_shot=2,
        n_query=3,
        warp=WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask"),
        training=TrainingConfig(steps=40, meta_batch=2, lr=0.03, validate_every=40, validation_episodes=2),
    )
    losses = [entry["loss"] for entry in log_of(tmp_path / "init")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    loaded = Init.load(tmp_path / "init")
    assert loaded.tensors["prompt"].shape == (2, backbone.embedding_size)
    assert all(tensor.equal(loaded.tensors[name]) for name, tensor in init.tensors.items())
    episodes = tiny_episodes(2)
    once, again = (query_logits(one.bind(backbone), one.to(backbone), episodes) for one in (init, loaded))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    model = WarpClassifier(tmp_path / "init", backbone=backbone).fit(["play music", "rain today"], ["music", "rain"])
    assert set(model.predict(["some music"])) <= {"music", "rain"}
