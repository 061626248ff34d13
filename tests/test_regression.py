"""A differentiable logistic regression: it finds scikit-learn's minimum, and the gradient of that minimum."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from sklearn.linear_model import LogisticRegression
from tiny import query_logits, tiny_episodes, tiny_model, without_names
from torch.nn.functional import normalize, one_hot
from torch.testing import assert_close

from episodes import Episode
from metawarp.adaptation.start import start
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.logistic_regression import RepeatedFit, fit_logistic_regression
from metawarp.verbalizers.regression_problem import Examples, Problem

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
    return fit_logistic_regression(examples(features, counts), CLASSES, strength)


def examples(features, counts):
    return Examples(features, TASK, one_hot(LABEL, CLASSES.shape[1]).to(features), counts)


def by_scikit_learn(features, labels, counts, strength):
    """The weights of scikit-learn, whose bias is penalized like here."""
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-12, max_iter=10_000)
    x = np.column_stack([features.numpy(), np.ones(len(features))])
    return torch.from_numpy(model.fit(x, labels.numpy(), sample_weight=counts.numpy()).coef_)


@pytest.mark.parametrize("strength", [0.01, 5.0, 300.0])
def test_the_weights_are_those_of_scikit_learn(strength):
    features, counts, _ = problem()
    weights = fit(features, counts, torch.tensor(strength, dtype=torch.float64))
    for task in (0, 1):
        here = task == TASK
        expected = by_scikit_learn(features[here], LABEL[here], counts[here], strength)
        assert_close(weights[task, CLASSES[task]], expected, rtol=0, atol=1e-5 * strength)
    assert not weights[~CLASSES].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_many_similar_classes_are_fitted_to_convergence(dtype):
    generator, classes = torch.Generator().manual_seed(0), 66  # so many that full Newton steps oscillate
    apart = torch.randn(classes, 200, generator=generator, dtype=torch.float64)
    noise = torch.randn(apart.shape, generator=generator)
    features = normalize(0.5 + torch.cat([apart, apart + 8 * noise]), dim=-1)
    label = torch.arange(classes).repeat(2)
    counts = torch.where(torch.arange(2 * classes) < classes, 3.0, 1.0)
    one_task, everyone = torch.zeros(2 * classes, dtype=torch.long), torch.ones(1, classes, dtype=torch.bool)
    every = Examples(features.to(dtype), one_task, one_hot(label).to(dtype), counts.to(dtype))
    weights = fit_logistic_regression(every, everyone, torch.tensor(5.0, dtype=dtype))
    assert_close(weights[0].double(), by_scikit_learn(features, label, counts, 5.0), rtol=0, atol=2e-3)


def test_tasks_are_fitted_apart_and_two_classes_have_opposite_weights():
    features, counts, strength = problem()
    changed = features.clone()
    changed[TASK == 1] += 1
    one, other = fit(features, counts, strength), fit(changed, counts, strength)
    assert_close(one[[0, 2]], other[[0, 2]], rtol=0, atol=1e-9)
    assert not torch.allclose(one[1], other[1], atol=0.1)
    assert_close(one[2, 0], -one[2, 1], rtol=0, atol=1e-10)


def test_gradients_are_those_of_the_minimum():
    inputs = [tensor.requires_grad_() for tensor in problem()]
    assert torch.autograd.gradcheck(fit, inputs, atol=1e-6, check_undefined_grad=False, fast_mode=True)


def test_single_precision_is_close():
    assert_close(fit(*problem(torch.float32)), fit(*problem()).float(), rtol=1e-4, atol=1e-4)


# As a verbalizer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_times", [1, 8], ids=["fewer examples than dimensions", "many examples"])
def test_examples_are_read_in_coordinates_of_the_space_that_they_span(n_times):
    features, counts, strength = problem(torch.float32)
    many = Examples.joined([examples(features * (1 + i), counts) for i in range(n_times)])
    whole = Problem.of(many, CLASSES, strength)
    spread = None
    for solved, basis in (whole.in_row_space(), whole.in_principal_axes()):
        width = min(whole.x.shape[1:])
        assert solved.x.shape[2] == basis.shape[2] == width
        assert_close(solved.x @ basis.mT, whole.x, rtol=0, atol=1e-5 * n_times)
        assert_close(basis.mT @ basis, torch.eye(width).expand(3, -1, -1), rtol=0, atol=1e-5)
        spread = solved.spread
    assert spread is not None
    weighted = solved.counts.sqrt()[..., None] * solved.x
    assert_close(weighted.mT @ weighted, torch.diag_embed(spread), rtol=0, atol=1e-4 * float(spread.max()))


def test_a_large_fit_has_the_bits_of_earlier_releases(monkeypatch):
    features, counts, strength = problem(torch.float32)
    many = Examples.joined([examples(features * (1 + i), counts) for i in range(8)])  # more than twice the dimensions
    solve, calls = torch.linalg.qr, []
    monkeypatch.setattr(torch.linalg, "qr", lambda matrix: calls.append(matrix.shape) or solve(matrix))
    fit_logistic_regression(many, CLASSES, strength)
    assert calls == [(3, 8, 96)], "earlier releases solved it in the coordinates of a QR decomposition"


@pytest.mark.parametrize("n_times", [1, 8])
@pytest.mark.parametrize("differentiable", [True, False])
def test_repeated_fits_are_those_of_single_ones(n_times, differentiable):
    features, counts, strength = problem()
    many = Examples.joined([examples(features * (1 + i), counts) for i in range(n_times)])
    fit = RepeatedFit.of(many, CLASSES, strength, differentiable=differentiable)
    weights = fit_logistic_regression(many, CLASSES, strength)
    for sharpness in (1, 2):
        targets = (sharpness * many.targets).masked_fill(~CLASSES[many.task], -torch.inf).softmax(1)
        expected = fit_logistic_regression(replace(many, targets=targets), CLASSES, strength)
        weights = fit.minimum(targets, weights, tolerance=1e-9)
        assert_close(weights, expected, rtol=0, atol=1e-5)
        logits = torch.einsum(
            "bd,bcd->bc", torch.nn.functional.pad(many.features, (0, 1), value=1.0), weights[many.task]
        )
        assert_close(fit.logits(weights), logits.masked_fill(~CLASSES[many.task], -torch.inf))


def model(tiny, **config):
    return tiny_model(tiny, verbalizer="regression", **config)


def embeddings(warp, init, *episodes, named=True):
    """Class embeddings (T, C, d + 1) of tasks before any inner step."""
    return start(warp, init, TaskBatch.encode(episodes if named else without_names(episodes), warp.encoder))[
        0
    ].class_embeddings


def test_names_are_examples_that_count_as_several_texts(tiny):
    warp, init = model(tiny)
    (episode,) = tiny_episodes(1)
    found = embeddings(warp, init, episode)
    assert found.shape == (1, 3, warp.class_embedding_size)
    nothing = replace(init, log_name_count=torch.tensor(-math.inf, dtype=torch.float64))
    alone = embeddings(warp, init, episode, named=False)
    assert_close(embeddings(warp, nothing, episode), alone, rtol=0, atol=1e-9)
    assert not torch.allclose(found, alone, atol=0.1)


def test_names_count_in_features_of_the_last_layer_only(tiny):
    warp, init = model(tiny, read_out="text-1+mean+mask")
    assert warp.read_out.in_last_layer.tolist() == [False] * 32 + [True] * 64
    (episode,) = tiny_episodes(1, k_shot=0)
    found = embeddings(warp, init, episode)
    assert not found[..., :32].any() and found[..., 32:-1].all()
    low, _ = model(tiny, read_out="text-1")
    assert low.read_out.in_last_layer.all()  # there is nothing else to compare


def test_tasks_of_different_ways_and_shots_are_fitted_as_if_alone(tiny):
    warp, init = model(tiny)
    episodes = [tiny_episodes(1, n_way=n, k_shot=k, seed=n)[0] for n, k in ((2, 3), (4, 1), (3, 0))]
    alone = [query_logits(warp, init, [episode])[0] for episode in episodes]
    assert_close(query_logits(warp, init, episodes), alone, rtol=0, atol=1e-8)


def test_every_class_has_the_same_total_weight(tiny):
    warp, init = model(tiny)
    one, other = "play the music", "what is the weather today"

    def fitted(*labels):
        texts = [one if label == 0 else other for label in labels]
        return embeddings(warp, init, Episode.from_texts(["music", "weather"], texts, list(labels)), named=False)

    assert_close(fitted(0, 0, 0, 1), fitted(0, 0, 1, 1), rtol=0, atol=1e-7)
    assert not torch.allclose(fitted(0, 0, 0, 1, 1, 1), fitted(0, 0, 0, 1), atol=1e-3)


def test_a_regression_without_names_and_texts_is_refused(tiny):
    warp, init = model(tiny)
    with refused("regression", "class names or support texts"):
        embeddings(warp, init, *tiny_episodes(1, k_shot=0), named=False)


NAMES = 0.2 * torch.eye(4, 8, dtype=torch.float64)
IN_COMMON = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1], dtype=torch.float64) / 2  # what all texts have, and no name


def of_synthetic_features(tiny, *shots):
    """Init, tasks of four classes with these numbers of texts, and features of names, texts and a query per class."""
    warp, init = model(tiny)
    texts = [["text"] * sum(numbers) for numbers in shots]
    labels = [[label for label, number in enumerate(numbers) for _ in range(number)] for numbers in shots]
    names = ["music", "weather", "news", "sports"]
    tasks = TaskBatch.encode(
        [Episode.from_texts(names, *task) for task in zip(texts, labels, strict=True)], warp.encoder
    )
    queries = NAMES + IN_COMMON
    support = queries[tasks.support.label] if len(tasks.support) else None
    embeddings = warp.verbalizer.class_embeddings(init, tasks, NAMES.repeat(len(shots), 1), support)
    predicted = warp.verbalizer.logits(queries, embeddings[:, None], init.log_scale.exp()).argmax(-1)
    return init, tasks, support, embeddings, predicted


@pytest.mark.parametrize("shots", [(1, 1, 1, 0), (3, 0, 0, 0), (0, 30, 1, 2)])
def test_a_class_that_has_a_name_alone_is_predicted_beside_classes_with_texts(tiny, shots):
    *_, predicted = of_synthetic_features(tiny, (0, 0, 0, 0), shots)
    assert predicted.tolist() == [[0, 1, 2, 3]] * 2


def test_names_are_not_moved_in_tasks_with_equal_numbers_of_texts(tiny):
    init, tasks, support, embeddings, _ = of_synthetic_features(tiny, (2, 2, 2, 2), (2, 0, 0, 2), (0, 0, 0, 0))
    assert support is not None and init.log_name_count is not None
    assert init.log_strength is not None and init.strength_by_ways is not None
    label, task = (
        torch.cat([getattr(texts, name) for texts in (tasks.support, tasks.names)]) for name in ("label", "task")
    )
    count = torch.cat([torch.ones(len(support)), init.log_name_count.exp().expand(12)]).double()
    as_they_are = Examples(torch.cat([support, NAMES.repeat(3, 1)]), task, one_hot(label).double(), count)
    strength = init.log_strength.exp() * 4**init.strength_by_ways
    expected = fit_logistic_regression(as_they_are, tasks.class_mask, strength)
    assert_close(embeddings[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-12)
    assert not torch.allclose(embeddings[1], expected[1], atol=0.1)
