"""Logistic regression that gradients run through: scikit-learn's minimum, and the slope of that minimum."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny import NO_STEPS, query_logits, tiny_episodes, tiny_model
from torch.nn.functional import normalize

from episodes import Episode
from metawarp.adaptation.adapt import start
from metawarp.adaptation.regression import fitted_rows
from metawarp.adaptation.tasks import TaskBatch

TASK = torch.tensor([0] * 12 + [1] * 9 + [2] * 4)
LABEL = torch.tensor([0, 1, 2, 3] * 3 + [0, 1, 2] * 3 + [0, 1, 0, 1])
CLASSES = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()


def problem(dtype=torch.float64):
    """Features, counts and strength of 25 examples of three tasks with 4, 3 and 2 classes."""
    generator = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(25, 7, generator=generator, dtype=torch.float64), dim=-1)
    counts = torch.rand(25, generator=generator, dtype=torch.float64) + 0.5
    return features.to(dtype), counts.to(dtype), torch.tensor(5.0, dtype=dtype)


def fit(features, counts, strength):
    return fitted_rows(features, TASK, LABEL, counts, CLASSES, strength)


@pytest.mark.parametrize("strength", [0.01, 5.0, 300.0])
def test_the_rows_are_those_of_scikit_learn(strength):
    features, counts, _ = problem()
    rows = fit(features, counts, torch.tensor(strength, dtype=torch.float64))
    for task in (0, 1):
        (here,) = torch.where(task == TASK)
        model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-12, max_iter=10_000)
        x = np.column_stack([features[here].numpy(), np.ones(len(here))])  # a bias that is penalized
        model.fit(x, LABEL[here].numpy(), sample_weight=counts[here].numpy())
        assert torch.allclose(rows[task, CLASSES[task]], torch.from_numpy(model.coef_), rtol=0, atol=1e-5 * strength)
    assert not rows[~CLASSES].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_many_classes_that_look_alike_are_fitted_to_the_end(dtype):
    generator, classes = torch.Generator().manual_seed(0), 66  # where whole Newton steps go back and forth
    apart = torch.randn(classes, 200, generator=generator, dtype=torch.float64)
    noise = torch.randn(apart.shape, generator=generator)
    features = normalize(0.5 + torch.cat([apart, apart + 8 * noise]), dim=-1)
    label = torch.arange(classes).repeat(2)
    counts = torch.where(torch.arange(2 * classes) < classes, 3.0, 1.0)
    one_task, everyone = torch.zeros(2 * classes, dtype=torch.long), torch.ones(1, classes, dtype=torch.bool)
    rows = fitted_rows(features.to(dtype), one_task, label, counts.to(dtype), everyone, torch.tensor(5.0, dtype=dtype))
    model = LogisticRegression(C=5.0, fit_intercept=False, tol=1e-12, max_iter=10_000)
    x = np.column_stack([features.numpy(), np.ones(len(features))])
    model.fit(x, label.numpy(), sample_weight=counts.numpy())
    assert torch.allclose(rows[0].double(), torch.from_numpy(model.coef_), rtol=0, atol=2e-3)


def test_of_two_classes_one_row_is_the_other_turned_round():
    rows = fit(*problem())[2]
    assert torch.allclose(rows[0], -rows[1], rtol=0, atol=1e-10)


def test_tasks_are_fitted_apart():
    features, counts, strength = problem()
    changed = features.clone()
    changed[TASK == 1] += 1
    one, other = fit(features, counts, strength), fit(changed, counts, strength)
    assert torch.allclose(one[[0, 2]], other[[0, 2]], rtol=0, atol=1e-9)
    assert not torch.allclose(one[1], other[1], atol=0.1)


def test_gradients_are_those_of_the_minimum():
    inputs = [tensor.requires_grad_() for tensor in problem()]
    assert torch.autograd.gradcheck(fit, inputs, atol=1e-6, check_undefined_grad=False)


def test_single_precision_is_close():
    exact, single = fit(*problem()), fit(*problem(torch.float32))
    assert torch.allclose(exact.float(), single, rtol=1e-4, atol=1e-4)


# As verbalizer rows -------------------------------------------------------------------------------------------


def test_names_are_examples_that_count_as_several_texts(tiny):
    warp, state = tiny_model(tiny, rows="regression")
    (episode,) = tiny_episodes(1)
    tasks = TaskBatch.encode([episode], warp.encoder)
    rows = start(warp, state, tasks)[0]["rows"]
    assert rows.shape == (1, 3, warp.row_size) == (1, 3, 65)
    nothing = {**state, "log_name_count": torch.tensor(-math.inf, dtype=torch.float64)}
    unnamed = TaskBatch.encode([episode], warp.encoder, named=False)
    alone = start(warp, state, unnamed)[0]["rows"]
    assert torch.allclose(start(warp, nothing, tasks)[0]["rows"], alone, rtol=0, atol=1e-9)
    assert not torch.allclose(rows, alone, atol=0.1)


def test_a_name_is_compared_with_texts_after_the_last_layer_alone(tiny):
    warp, state = tiny_model(tiny, rows="regression", read_out="text-1+mean+mask")
    assert warp.last_layer.tolist() == [False] * 32 + [True] * 64
    (episode,) = tiny_episodes(1, k_shot=0)
    rows = start(warp, state, TaskBatch.encode([episode], warp.encoder))[0]["rows"]
    assert not rows[..., :32].any() and rows[..., 32:-1].all()
    low, _ = tiny_model(tiny, rows="regression", read_out="text-1")
    assert low.last_layer.all()  # there is nothing else to compare


def test_without_support_texts_the_names_are_told_apart(tiny):
    warp, state = tiny_model(tiny, rows="regression")
    (episode,) = tiny_episodes(1, k_shot=0)
    tasks = TaskBatch.encode([episode], warp.encoder)
    assert not len(tasks.support)
    logits = query_logits(warp, state, [episode])[0]
    assert logits.shape == (9, 3)
    assert logits.isfinite().all()


def test_tasks_of_different_ways_and_shots_at_once_are_one_by_one(tiny):
    warp, state = tiny_model(tiny, rows="regression")
    episodes = [tiny_episodes(1, n_way=n, k_shot=k, seed=n)[0] for n, k in ((2, 3), (4, 1), (3, 0))]
    for episode, logits in zip(episodes, query_logits(warp, state, episodes, NO_STEPS), strict=True):
        assert torch.allclose(logits, query_logits(warp, state, [episode])[0], rtol=0, atol=1e-8)


def test_a_class_of_more_texts_counts_no_more_than_another(tiny):
    warp, state = tiny_model(tiny, rows="regression")
    one, other = "play the music", "what is the weather today"
    uneven = Episode.from_texts(["music", "weather"], [one, one, one, other], [0, 0, 0, 1])
    even = Episode.from_texts(["music", "weather"], [one, one, other, other], [0, 0, 1, 1])
    rows = [start(warp, state, TaskBatch.encode([e], warp.encoder))[0]["rows"] for e in (uneven, even)]
    assert torch.allclose(*rows, rtol=0, atol=1e-7)
    more = Episode.from_texts(["music", "weather"], [one, one, one, other, other, other], [0, 0, 0, 1, 1, 1])
    assert not torch.allclose(start(warp, state, TaskBatch.encode([more], warp.encoder))[0]["rows"], rows[0], atol=1e-3)
