"""Every type of backbone: prompts at any place, exact gradients, meta-training, and an init that is used again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import MODELS, central_differences, query_logits, tiny_backbone, tiny_corpus, tiny_episodes, tiny_model

from metawarp import Init, TrainingConfig, WarpClassifier, WarpConfig, train
from metawarp.adaptation.start import shared_parameters
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.run_folder import read_log

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
    texts = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]
    prompt = init.adapter[None].requires_grad_()
    parameters = replace(shared_parameters(init), adapter=prompt)

    def read(texts):
        return warp.read(parameters, warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))

    together = read(texts)
    for text, features in zip(texts, together, strict=True):
        assert torch.allclose(read([text])[0], features, rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad((together**3).sum(), prompt)
    assert slope.abs().sum(-1).min() > 1e-6, "each soft token must be seen by the text"


@pytest.mark.parametrize("model_type", [t if t == "bert" else pytest.param(t, marks=pytest.mark.slow) for t in TYPES])
def test_second_order_is_the_slope_of_the_query_loss(tmp_path, exact, model_type):
    inner = InnerLoop(2, GROUPS)
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    warp, init = tiny_model(backbone, inner, learn=True, rates=InnerLearningRates(0.3, 0.2))
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    found = METHODS["maml"].meta_gradient(init, MetaBatch(warp, tasks, inner, last_step(2)))
    for name in ("adapter", "log_adapter_lr", "log_scale"):
        entries, slopes = central_differences(warp, init, tasks, inner, name)
        gradient = tensors_of(found.gradients)[name].reshape(-1)[torch.from_numpy(entries)]
        assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().max() > 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
@pytest.mark.parametrize("model_type", TYPES)
def test_a_whole_meta_training_lowers_the_loss_and_its_init_is_used_again(tmp_path, model_type, head):
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
    losses = [entry["loss"] for entry in read_log(tmp_path / "init")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    loaded = Init.load(tmp_path / "init")
    assert loaded.parameters.adapter.shape == (2, backbone.embedding_size)
    saved = tensors_of(loaded.parameters)
    assert all(tensor.equal(saved[name]) for name, tensor in tensors_of(init.parameters).items())
    episodes = tiny_episodes(2)
    once, again = (query_logits(one.bind(backbone), one.on(backbone), episodes) for one in (init, loaded))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    classifier = WarpClassifier(tmp_path / "init", backbone=backbone)
    classifier.fit(["play music", "rain today"], ["music", "rain"])
    assert set(classifier.predict(["some music"])) <= {"music", "rain"}
