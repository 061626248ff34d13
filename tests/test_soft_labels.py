"""Unlabelled texts in a regression: what labels they get, and what they change."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_episodes, tiny_model
from torch.nn.functional import normalize, one_hot
from torch.testing import assert_close

from episodes import Episode
from metawarp.adaptation.adapt import adapt
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, mapped, tensors_of
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.verbalizers.neighbours import label_propagation
from metawarp.verbalizers.regression import Regression
from metawarp.verbalizers.regression_problem import Examples
from metawarp.verbalizers.soft_labels import SOFT_LABELS, SoftLabels

WAYS, WIDTH = (4, 3), 12


def texts_of(task, label):
    return LabelledTexts(None, torch.tensor(task), torch.tensor(label))


def tasks(shots=1, n_unlabelled=(15, 6)):
    """Two tasks, their support texts, and unlabelled ones."""
    support = [(t, c) for t, ways in enumerate(WAYS) for c in range(ways) for _ in range(shots)]
    unlabelled = [t for t, number in enumerate(n_unlabelled) for _ in range(number)]
    none, counts = texts_of([], []), torch.zeros(2, 4)
    for task, label in support:
        counts[task, label] += 1
    texts = texts_of(*zip(*support, strict=True)), none, texts_of(unlabelled, [0] * len(unlabelled))
    return TaskBatch(none, *texts, torch.tensor(WAYS), counts, torch.full((2, 4), -1))


def features(batch, seed=0, noise=0.5):
    """Features of the support texts and of the unlabelled ones, which lie around the centres of the classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(2, 4, WIDTH, generator=generator, dtype=torch.float64)
    hidden = torch.cat([torch.arange(int((batch.unlabelled.task == t).sum())) % WAYS[t] for t in (0, 1)])

    def near(task, label):
        noisy = torch.randn(len(task), WIDTH, generator=generator, dtype=torch.float64)
        return normalize(centres[task, label] + noise * noisy, dim=-1)

    return near(batch.support.task, batch.support.label), near(batch.unlabelled.task, hidden), hidden


def init(**changes):
    """The start of the scalars of a regression, in float64."""
    values = {**Regression.scalars, **changes}
    parameters = InitParameters(adapter=torch.zeros(1), **{name: torch.tensor(v) for name, v in values.items()})
    return mapped(parameters, torch.Tensor.double)


def refitted(parameters, batch, support, unlabelled):
    return Regression().class_embeddings(parameters, batch, None, support, unlabelled)


def test_tasks_are_fitted_apart():
    batch = tasks()
    support, unlabelled, _ = features(batch)
    support.requires_grad_()  # minima are exact then
    both = refitted(init(), batch, support, unlabelled)
    for t, ways in enumerate(WAYS):
        own = refitted(init(), batch.task(t), support[batch.support.task == t], unlabelled[batch.unlabelled.task == t])
        assert_close(both[t, :ways], own[0], rtol=0, atol=1e-6)


def test_unlabelled_texts_make_a_task_more_accurate():
    batch, right, before = tasks(n_unlabelled=(80, 60)), 0, 0
    for seed in range(5):
        support, unlabelled, hidden = features(batch, seed, noise=0.8)
        embeddings = Regression().class_embeddings(init(), batch, None, support)
        after = refitted(init(), batch, support, unlabelled)
        for found, classes in ((0, embeddings), (1, after)):
            logits = Regression().logits(unlabelled, classes[batch.unlabelled.task], torch.tensor(1.0))
            logits = logits.masked_fill(~batch.class_mask[batch.unlabelled.task], float("-inf"))
            number = int((logits.argmax(1) == hidden).sum())
            right, before = right + number * found, before + number * (1 - found)
    assert right > before + 25, (right, before)


def test_gradients_through_the_rounds_are_those_of_the_minima():
    batch = tasks(n_unlabelled=(5, 4))
    support, unlabelled, _ = features(batch)
    base = init(log_neighbour_weight=-40.0, log_unlabelled_count=-1.5)  # neighbours are not differentiated
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(2, 4, WIDTH + 1, generator=generator, dtype=torch.float64)

    def value(parameters, support, unlabelled):
        """A function of the exact minima, which are found where a gradient is required."""
        embeddings = refitted(parameters, batch, support.clone().requires_grad_(), unlabelled)
        return (embeddings * direction).sum()

    names = [name for name in (*SOFT_LABELS, "log_strength") if "neighbour_weight" not in name]
    scalars = {name: getattr(base, name).clone().requires_grad_() for name in names}
    inputs = support.clone().requires_grad_(), unlabelled.clone().requires_grad_()
    value(replace(base, **scalars), *inputs).backward()
    step = 1e-5

    def slope(changed):
        """The central difference of the value along one entry."""
        ends = [value(*changed(sign * step)).item() for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    for name, tensor in scalars.items():
        expected = slope(lambda by, name=name: (replace(base, **{name: getattr(base, name) + by}), support, unlabelled))
        assert tensor.grad is not None and float(tensor.grad) == pytest.approx(expected, rel=1e-3, abs=1e-6), name
        assert abs(expected) > 1e-4, name
    entry = torch.zeros_like(support)
    entry[2, 3] = 1
    expected = slope(lambda by: (base, support + by * entry, unlabelled))
    assert inputs[0].grad is not None and inputs[1].grad is not None
    assert float(inputs[0].grad[2, 3]) == pytest.approx(expected, rel=1e-3)
    entry = torch.zeros_like(unlabelled)
    entry[2, 3] = 1
    expected = slope(lambda by: (base, support, unlabelled + by * entry))
    assert float(inputs[1].grad[2, 3]) == pytest.approx(expected, rel=1e-3)


def test_gradients_reach_the_scalars_of_soft_labels_if_nothing_else_is_learned():
    batch = tasks(n_unlabelled=(5, 4))
    support, unlabelled, _ = features(batch)
    base = init()
    scalars = {name: getattr(base, name).clone().requires_grad_() for name in SOFT_LABELS}
    refitted(replace(base, **scalars), batch, support, unlabelled).square().sum().backward()
    for name, tensor in scalars.items():
        assert tensor.grad is not None and float(tensor.grad.abs()) > 0, name


def test_proportions_are_moved_to_equal_ones_and_absent_classes_have_no_probability():
    batch = tasks(n_unlabelled=(40, 6))
    support, unlabelled, _ = features(batch)
    examples = Examples(support, batch.support.task, one_hot(batch.support.label, 4).double(), torch.ones(7).double())
    logits = torch.zeros(46, 4, dtype=torch.float64)
    logits[:, 0] = 2.0  # the first class is predicted too often
    shares = []
    for balance in (-40.0, 0.0):
        labels = SoftLabels.of(init(log_balance=balance, log_neighbour_weight=-40.0), batch, examples, unlabelled)
        targets = labels.targets(logits)
        assert_close(targets.sum(1), torch.ones(46, dtype=torch.float64))
        assert not targets[40:, 3].any(), "the second task has three classes"
        shares.append(float(targets[:40, 0].mean()))
    assert shares[0] > 0.7 and shares[1] == pytest.approx(0.25, abs=0.01)


def test_a_few_unlabelled_texts_count_no_more_than_labelled_ones():
    batch = tasks(shots=5, n_unlabelled=(2, 300))
    support, unlabelled, _ = features(batch)
    targets = one_hot(batch.support.label, 4).double()
    labels = SoftLabels.of(
        init(), batch, Examples(support, batch.support.task, targets, torch.ones(35).double()), unlabelled
    )
    assert 0.1 < labels.count[0] < 1 and 0 < labels.count[1] < 0.1
    assert float(2 * labels.count[0]) < float(300 * labels.count[1]), "a few texts count less than many"


def test_neighbours_count_as_much_as_they_agree_with_the_logits():
    batch = tasks(n_unlabelled=(40, 30))
    support, unlabelled, _ = features(batch)
    targets = one_hot(batch.support.label, 4).double()
    examples = Examples(support, batch.support.task, targets, torch.ones(7).double())
    labels = SoftLabels.of(init(), batch, examples, unlabelled)
    agreeing, opposing = labels.evidence, -labels.evidence
    assert_close(labels.trusting_neighbours(agreeing).evidence, labels.evidence)
    half = torch.where(batch.unlabelled.task[:, None] == 0, agreeing, opposing)
    evidence = labels.trusting_neighbours(half).evidence
    assert_close(evidence[:40], labels.evidence[:40])
    assert not evidence[40:].any()


def test_label_propagation_is_the_limit_of_the_dense_formula():
    generator = torch.Generator().manual_seed(0)
    points = normalize(torch.randn(30, 5, generator=generator, dtype=torch.float64) + 0.5, dim=-1)
    targets = one_hot(torch.arange(6) % 3, 3).double()
    examples = Examples(points[:6], torch.zeros(6, dtype=torch.long), targets, torch.ones(6).double())
    found = label_propagation(examples, points[6:], torch.zeros(24, dtype=torch.long))
    cosines = points @ points.T
    cosines.fill_diagonal_(-1)
    values, places = cosines.topk(15, 1)
    graph = torch.zeros_like(cosines).scatter(1, places, values.clamp(min=0) ** 4)
    graph = (graph + graph.T) / 2
    root = graph.sum(1).rsqrt()
    graph = root[:, None] * graph * root
    known = torch.cat([targets, torch.zeros(24, 3, dtype=torch.float64)])
    expected = torch.linalg.solve(torch.eye(30).double() - 0.9 * graph, known)[6:]
    assert_close(found, expected / expected.sum(1, keepdim=True), rtol=0, atol=0.01)


def test_without_unlabelled_texts_a_task_is_the_same(tiny):
    warp, parameters = tiny_model(tiny, InnerLoop(0, ()), verbalizer="regression")
    (episode,) = tiny_episodes(1, k_shot=2)
    labels = episode.support_labels.tolist(), episode.query_labels.tolist()
    texts = episode.support_texts, labels[0], episode.query_texts, labels[1]
    pool = [f"{text} again" for text in episode.query_texts]
    found = []
    for unlabelled in ((), pool):
        other = Episode.from_texts(episode.class_names, *texts, unlabelled_texts=unlabelled)
        batch = TaskBatch.encode([other], warp.encoder)
        found.append(adapt(warp, parameters, batch, InnerLoop(0, ())).parameters)
        again = adapt(warp, parameters, batch.without_unlabelled(), InnerLoop(0, ())).parameters
        assert torch.equal(again.class_embeddings, found[0].class_embeddings)
    assert not torch.equal(found[0].class_embeddings, found[1].class_embeddings)
    assert tensors_of(found[0]).keys() == tensors_of(found[1]).keys()
