"""Regularizers: their equations, perturbations of the given length that raise the loss, and their part in training."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from marks import slow
from running import refused
from tiny import ADAPTER_SIZES, tiny_episodes, tiny_model
from torch.nn.functional import normalize
from torch.testing import assert_close
from trainings import FEW, MODEL, trainer_of

from metawarp import Warp
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.meta_learning import regularizer
from metawarp.meta_learning.adversarial import perturbed
from metawarp.meta_learning.regularizer import REGULARIZERS
from metawarp.meta_learning.scal import TEMPERATURE, contrastive_loss, scal
from metawarp.meta_learning.sift import sift
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.config import TrainingConfig
from metawarp.training.run_folder import read_log

EACH_ADAPTER = pytest.mark.parametrize(("adapter", "size"), ADAPTER_SIZES.items())
READ_OUT = replace(MODEL, read_out="mean+mask")


def model_and_tasks(backbone, adapter="prompt", size=None, k_shot=2, **config):
    """A model, an init that requires gradients, two tasks, and their parameters before any inner step."""
    warp, init = tiny_model(backbone, learn=True, adapter=adapter, adapter_size=size, **config)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=k_shot), warp.encoder)
    return warp, init, tasks, start(warp, init, tasks)[0]


def value_of(loss: torch.Tensor) -> float:
    return float(loss.detach())


# The perturbation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1])
@EACH_ADAPTER
def test_a_perturbation_raises_the_loss_and_has_the_given_length(tiny, adapter, size, layer):
    warp, _, tasks, current = model_and_tasks(tiny, adapter, size, adapter_layer=layer)
    moved = perturbed(warp, current, tasks, tasks.query, 0.01)
    assert moved.batch is not None and moved.batch.perturbation is not None
    lengths, is_text = moved.batch.perturbation.norm(dim=-1), moved.batch.text_mask & moved.batch.attention_mask
    assert_close(lengths, 0.01 * is_text.double())
    back, unmoved = (
        replace(moved, batch=replace(moved.batch, perturbation=factor * moved.batch.perturbation)) for factor in (-1, 0)
    )
    assert_close(read_texts(warp, current, unmoved), read_texts(warp, current, tasks.query), rtol=0, atol=1e-12)
    before, plain, after = (
        value_of(losses_of(warp, current, read_texts(warp, current, texts), texts, tasks).sum())
        for texts in (back, tasks.query, moved)
    )
    assert before < plain < after


def test_a_perturbation_stays_with_its_tokens_in_passes_of_one_text(tiny):
    config: dict[str, Any] = {"max_length": 8, "stride": 2, "template": "{prompt:2} {text} {mask}"}
    warp, _, tasks, current = model_and_tasks(tiny, "prefix", **config)
    moved = perturbed(warp, current, tasks, tasks.query, 0.05)
    together = read_texts(warp, current, moved)
    one_by_one = Warp(replace(tiny, max_tokens=1), warp.config)
    assert_close(read_texts(one_by_one, current, moved), together, rtol=0, atol=1e-10)
    assert not torch.allclose(read_texts(warp, current, tasks.query), together, atol=1e-3)


def test_the_bare_text_is_never_perturbed(tiny):
    warp, _, tasks, current = model_and_tasks(tiny, read_out="text+mean")
    moved = perturbed(warp, current, tasks, tasks.query, 0.05)
    plain, found = (read_texts(warp, current, texts) for texts in (tasks.query, moved))
    assert torch.equal(plain[:, :32], found[:, :32])
    assert not torch.allclose(plain[:, 32:], found[:, 32:])


# The losses ---------------------------------------------------------------------------------------------------


def test_sift_is_the_divergence_to_the_perturbed_texts(tiny):
    warp, init, tasks, _ = model_and_tasks(tiny)
    found = [value_of(sift(warp, init, tasks, epsilon)) for epsilon in (1e-6, 0.02, 0.1)]
    assert 0 <= found[0] < 1e-9 < found[1] < found[2]


def test_sift_omits_classes_that_a_task_lacks(tiny):
    warp, init = tiny_model(tiny, learn=True)
    episodes = [tiny_episodes(1, n_way=n_way)[0] for n_way in (2, 5)]
    batches = [TaskBatch.encode(some, warp.encoder) for some in (episodes, episodes[:1], episodes[1:])]
    both, *alone = (value_of(sift(warp, init, batch, 0.05)) for batch in batches)
    assert both == pytest.approx(sum(alone) / 2, rel=1e-9)


def test_the_contrastive_loss_is_that_of_its_equation():
    generator = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1)
    task, label = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0, 0])
    each = []
    for i in range(6):
        others = [a for a in range(6) if a != i and task[a] == task[i]]
        positives = [a for a in others if label[a] == label[i]]
        total = torch.stack([z[i] @ z[a] / TEMPERATURE for a in others]).logsumexp(0)
        each.append(-sum(float(z[i] @ z[p] / TEMPERATURE - total) for p in positives) / len(positives))
    expected = (sum(each[:4]) / 4 + sum(each[4:]) / 2) / 2
    assert float(contrastive_loss(3 * z, task, label, 2)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k_shot", [0, 1, 2])
def test_scal_separates_classes_with_perturbed_support_texts_or_queries(tiny, k_shot):
    warp, init, tasks, _ = model_and_tasks(tiny, k_shot=k_shot)
    assert value_of(scal(warp, init, tasks, 0.1)) > value_of(scal(warp, init, tasks, 1e-6)) > 0


@EACH_ADAPTER
@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_gradient_for_a_fixed_perturbation_is_exact(tiny, name, adapter, size):
    warp, init, tasks, current = model_and_tasks(tiny, adapter, size)
    texts = tasks.query if name == "sift" else tasks.support
    held = perturbed(warp, current, tasks, texts, 0.05)
    with patch(f"{regularizer.__package__}.{name}.perturbed", return_value=held):
        loss = REGULARIZERS[name]
        (gradient,) = torch.autograd.grad(loss(warp, init, tasks, 0.05), init.adapter)
        entry, ends = int(gradient.abs().argmax()), []
        for step in (1e-5, -1e-5):
            adapter = init.adapter.detach().clone()
            adapter.view(-1)[entry] += step
            ends.append(value_of(loss(warp, replace(init, adapter=adapter), tasks, 0.05)))
    assert float(gradient.view(-1)[entry]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


# In training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("method", ["prototypical", slow("maml"), slow("reptile")])
def test_training_lowers_a_regularizer_of_large_weight(tiny, tmp_path, method, name):
    found = []
    for weight in (3.0, 1e-6):
        config = replace(FEW, steps=6, lr=0.1, validate_every=6, validation_episodes=1, regularizer=name)
        config = replace(config, regularizer_weight=weight, regularizer_epsilon=0.1)
        run = trainer_of(tiny, tmp_path / str(weight), config, method=method, model=READ_OUT)
        run.run()
        tasks = TaskBatch.encode([run.validation[i] for i in range(4)], run.warp.encoder)
        last = InitParameters(**run.optimizer.tensors())
        found.append(value_of(REGULARIZERS[name](run.warp, last, tasks, 0.1)))
    assert found[0] < found[1]


def test_the_log_of_a_regularized_run_has_the_loss_of_the_tasks(tiny, tmp_path):
    losses = []
    for name in ("none", "sift"):
        config = replace(FEW, steps=1, validation_episodes=1, regularizer=name)
        trainer_of(tiny, tmp_path / name, config, model=READ_OUT).run()
        losses.append(read_log(tmp_path / name)[0]["loss"])
    assert losses[0] == losses[1]


def test_unusable_settings_are_refused(tiny, tmp_path):
    with refused("regularizer='dropout'", "none", "sift", "scal"):
        TrainingConfig(regularizer="dropout")  # pyright: ignore[reportArgumentType]
    with refused("regularizer_epsilon=0", "positive"):
        TrainingConfig(regularizer="sift", regularizer_epsilon=0)
    for name in ("scal", "sift"):
        with refused(f"regularizer={name!r}", "read_out='text'", "pooled or mask"):
            model = replace(MODEL, read_out="text")
            trainer_of(tiny, tmp_path, TrainingConfig(regularizer=name), method="prototypical", model=model)
