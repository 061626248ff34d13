"""Meta-gradients, compared with finite differences, with plain autograd, and with each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from marks import slow, slow_except
from tiny import NO_STEPS, central_differences, query_loss, tiny_episodes, tiny_model
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.testing import assert_close

from metawarp.adaptation.start import losses_of, read_texts, shared_parameters, start
from metawarp.adaptation.trajectory import trajectory
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, gradients_of, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import LEARNING_RATES, InitParameters, mapped, tensors_of
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.soft_labels import SOFT_LABELS

RATES = InnerLearningRates(adapter=0.3, class_embeddings=0.2)
"""Large, so that the inner loop has a considerable effect."""


def learning(backbone, inner, n_tasks=2, k_shot=2, **config):
    """A model, an init that requires gradients, tasks, and the inner loop."""
    warp, init = tiny_model(backbone, inner, learn=True, rates=RATES, **config)
    return warp, init, TaskBatch.encode(tiny_episodes(n_tasks, k_shot=k_shot), warp.encoder), inner


def meta_gradient(method, warp, init, tasks, inner, loss_weights=None):
    weights = loss_weights or last_step(inner.inner_steps)
    return METHODS[method].meta_gradient(init, MetaBatch(warp, tasks, inner, weights))


def assert_gradients(found, expected, atol=1e-10):
    """Check that a meta-gradient has these gradients."""
    assert_close(tensors_of(found.gradients), tensors_of(expected), rtol=0, atol=atol)


def mean_of(found):
    """The mean of several meta-gradients."""
    parts = [tensors_of(one.gradients) for one in found]
    return InitParameters(**{name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]})


def assert_exact(method, warp, init, tasks, inner, weights=None):
    """Check a meta-gradient against central differences of the query loss."""
    found = meta_gradient(method, warp, init, tasks, inner, weights)
    assert float(found.losses.mean()) == pytest.approx(query_loss(warp, init, tasks, inner, weights), abs=1e-12)
    gradients = tensors_of(found.gradients)
    assert gradients.keys() == tensors_of(init).keys()
    for name, tensor in tensors_of(init).items():
        assert gradients[name].shape == tensor.shape
        entries, expected = central_differences(warp, init, tasks, inner, name, weights, entries=3)
        gradient = gradients[name].reshape(-1)[torch.from_numpy(entries)]
        assert_close(gradient, expected, rtol=1e-5, atol=1e-9, msg=name)
        if name not in SOFT_LABELS:  # these tasks have no unlabelled texts
            assert expected.abs().min() > 1e-7, f"{name} has no effect, so the comparison means nothing"


# Against central differences


@pytest.mark.parametrize("steps", [1, slow(3)])
@pytest.mark.parametrize("verbalizer", slow_except("regression", ["mix", "support", "names", "regression"]))
def test_maml_is_exact_for_every_verbalizer(tiny, verbalizer, steps):
    assert_exact("maml", *learning(tiny, InnerLoop(steps, GROUPS), verbalizer=verbalizer))


@pytest.mark.parametrize("read_out", ["mask", "debiased_mask", "mean"])
def test_maml_is_exact_for_every_read_out(tiny_mlm, read_out):
    assert_exact("maml", *learning(tiny_mlm, InnerLoop(2, GROUPS), n_tasks=1, read_out=read_out))


@pytest.mark.parametrize(("method", "updates"), [("maml", GROUPS), ("anil", ("class_embeddings",))])
@pytest.mark.parametrize("weights", [[0.1, 0.9], slow([0.1, 0.2, 0.3, 0.4])])
def test_weighted_query_losses_of_all_steps_are_exact(tiny, method, updates, weights):
    assert_exact(method, *learning(tiny, InnerLoop(len(weights) - 1, updates)), weights)


@pytest.mark.parametrize("steps", [1, 3])
def test_anil_is_exact(tiny, steps):
    inner = METHODS["anil"].inner.with_steps(steps)
    assert inner.updates == ("class_embeddings",)
    assert_exact("anil", *learning(tiny, inner))


def test_maml_of_the_adapter_alone_is_exact(tiny):
    assert_exact("maml", *learning(tiny, InnerLoop(2, ("adapter",)), n_tasks=1))


def test_prototypical_is_exact_and_equals_plain_autograd(tiny):
    warp, init, tasks, _ = learning(tiny, NO_STEPS)
    assert METHODS["prototypical"].inner == NO_STEPS
    assert_exact("prototypical", warp, init, tasks, NO_STEPS)
    current, _ = start(warp, init, tasks)
    loss = losses_of(warp, current, read_texts(warp, current, tasks.query), tasks.query, tasks).mean()
    assert_gradients(meta_gradient("prototypical", warp, init, tasks, NO_STEPS), gradients_of(loss, init), 1e-12)


# Batches of tasks


@pytest.mark.parametrize("k_shot", [0, 2])
def test_the_meta_gradient_of_a_batch_is_the_mean_of_those_of_its_tasks(tiny, k_shot):
    warp, init, tasks, inner = learning(tiny, InnerLoop(2, GROUPS), n_tasks=3, k_shot=k_shot)
    together = meta_gradient("maml", warp, init, tasks, inner)
    single = [TaskBatch.encode([episode], warp.encoder) for episode in tiny_episodes(3, k_shot=k_shot)]
    alone = [meta_gradient("maml", warp, init, task, inner) for task in single]
    assert_close(together.losses, torch.cat([one.losses for one in alone]), rtol=0, atol=1e-10)
    assert together.accuracy == pytest.approx(np.mean([one.accuracy for one in alone]))
    assert_gradients(together, mean_of(alone))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"multitask"}))
def test_tasks_of_different_ways_do_not_disturb_each_other(tiny, method):
    warp, init, _, inner = learning(tiny, METHODS[method].inner)
    episodes = [tiny_episodes(1, n_way=n_way, seed=n_way)[0] for n_way in (2, 4)]
    batches = [TaskBatch.encode(some, warp.encoder) for some in (episodes, episodes[:1], episodes[1:])]
    together, *alone = (meta_gradient(method, warp, init, tasks, inner) for tasks in batches)
    assert_gradients(together, mean_of(alone))
    assert together.gradients.adapter.any()


def test_without_support_texts_maml_is_prototypical(tiny):
    warp, init, tasks, inner = learning(tiny, InnerLoop(2, GROUPS), k_shot=0)
    found = meta_gradient("maml", warp, init, tasks, inner)
    assert_gradients(found, meta_gradient("maml", warp, init, tasks, NO_STEPS).gradients, 1e-12)
    assert not tensors_of(found.gradients)["log_adapter_lr"].any()


# First order


def test_what_first_order_omits_vanishes_with_the_inner_learning_rate(tiny):
    warp, init, tasks, inner = learning(tiny, InnerLoop(3, GROUPS))
    gaps = []
    for rate in (0.3, 1e-2, 1e-4, 1e-12):
        logs = {name: torch.full((3,), np.log(rate)).double().requires_grad_() for name in LEARNING_RATES.values()}
        small = replace(init, **logs)
        exact, first = (meta_gradient(method, warp, small, tasks, inner) for method in ("maml", "fomaml"))
        assert_close(exact.losses, first.losses, rtol=0, atol=1e-12)
        gaps.append(float((exact.gradients.adapter - first.gradients.adapter).norm() / exact.gradients.adapter.norm()))
    assert gaps[0] > 0.01
    assert gaps[1] > 50 * gaps[2] > 0
    assert gaps[3] < 1e-10


def test_first_order_learns_the_last_rates_as_exactly_as_maml_does(tiny):
    # θ_S = θ_{S-1} - α·g: the derivative with respect to the last α needs no second derivative.
    settings = learning(tiny, InnerLoop(2, GROUPS))
    exact, first = (tensors_of(meta_gradient(method, *settings).gradients) for method in ("maml", "fomaml"))
    for name in LEARNING_RATES.values():
        assert torch.allclose(exact[name][-1], first[name][-1], rtol=1e-9)
        assert not torch.allclose(exact[name][0], first[name][0], rtol=1e-6)


def test_one_step_of_reptile_is_a_step_along_the_gradient_of_the_loss(tiny):
    warp, init, tasks, inner = learning(tiny, InnerLoop(1, GROUPS))
    found = meta_gradient("reptile", warp, init, tasks, inner)
    # One step, on the queries, which holds the class embeddings fixed.
    current, _ = start(warp, mapped(init, torch.Tensor.detach), tasks, ("adapter",))
    current = replace(current, class_embeddings=current.class_embeddings.detach())
    losses = losses_of(warp, current, read_texts(warp, current, tasks.query), tasks.query, tasks)
    (gradient,) = torch.autograd.grad(losses.mean(), current.adapter)
    assert_close(found.gradients.adapter, RATES.of("adapter", inner) * gradient.sum(0), rtol=1e-6, atol=1e-12)
    others = {name: gradient for name, gradient in tensors_of(found.gradients).items() if name != "adapter"}
    assert others.keys() == tensors_of(init).keys() - {"adapter"}
    assert not any(gradient.any() for gradient in others.values())


def test_reptile_goes_back_from_the_mean_of_the_adapted_adapters(tiny):
    warp, init, tasks, inner = learning(tiny, InnerLoop(4, GROUPS), n_tasks=3)
    found = meta_gradient("reptile", warp, init, tasks, inner)
    states = trajectory(warp, init, tasks, inner, batches=(tasks.query, tasks.support)).states
    expected = init.adapter - states[-1].adapter.mean(0)
    assert_close(found.gradients.adapter, expected, rtol=0, atol=1e-12)
    assert expected.norm() > 1e-3
    assert found.losses.shape == (3,)


# All methods


def with_class_embeddings(init, n_classes):
    embeddings = torch.randn(n_classes, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return replace(init, corpus_class_embeddings=embeddings.requires_grad_())


@pytest.mark.parametrize("k_shot", [0, 2])
def test_multitask_is_classification_over_all_classes(tiny, k_shot):
    warp, init = tiny_model(tiny, learn=True)
    episodes = tiny_episodes(2, k_shot=k_shot)
    classes = episodes[0].corpus.class_names
    init = with_class_embeddings(init, len(classes))
    assert init.corpus_class_embeddings is not None
    tasks = TaskBatch.encode(episodes, warp.encoder, corpus_classes=classes)
    found = meta_gradient("multitask", warp, init, tasks, NO_STEPS)
    losses, correct = [], []
    for episode in episodes:
        texts = [*episode.support_texts, *episode.query_texts]
        names = [episode.class_names[c] for c in [*episode.support_labels, *episode.query_labels]]
        labels = torch.tensor([classes.index(name) for name in names])
        task = torch.zeros(len(texts), dtype=torch.long)
        features = warp.read(shared_parameters(init), warp.encoder(texts), task)
        cosines = cosine_similarity(features[:, None], init.corpus_class_embeddings[None], dim=-1)
        logits = init.log_scale.exp() * cosines
        losses.append(cross_entropy(logits, labels))
        correct += (logits.argmax(-1) == labels).tolist()
    assert_close(found.losses, torch.stack(losses).detach(), rtol=0, atol=1e-12)
    assert found.accuracy == pytest.approx(np.mean(correct))
    assert_gradients(found, gradients_of(torch.stack(losses).mean(), init))
    assert not tensors_of(found.gradients)["name_weight"].any()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_finite_gradients_for_every_tensor_and_leaves_the_init_alone(tiny, method):
    warp, init, _, inner = learning(tiny, METHODS[method].inner)
    episodes = tiny_episodes(2)
    classes = episodes[0].corpus.class_names
    if METHODS[method].learns_corpus_classes:
        init = with_class_embeddings(init, len(classes))
    before, random = mapped(init, lambda tensor: tensor.detach().clone()), torch.random.get_rng_state()
    found = meta_gradient(method, warp, init, TaskBatch.encode(episodes, warp.encoder, corpus_classes=classes), inner)
    assert torch.equal(torch.random.get_rng_state(), random), "nothing draws from the global random state"
    gradients = tensors_of(found.gradients)
    assert gradients.keys() == tensors_of(init).keys()
    assert found.losses.shape == (2,) and not found.losses.requires_grad
    assert 0 <= found.accuracy <= 1
    for name, tensor in tensors_of(init).items():
        assert gradients[name].shape == tensor.shape and gradients[name].isfinite().all()
        assert torch.equal(tensor.detach(), tensors_of(before)[name]) and tensor.grad is None
    assert found.gradients.adapter.any()


def test_maml_differentiates_real_weights_twice(minilm):
    """The second derivative of attention exists (the fused kernels have none)."""
    settings = learning(minilm, InnerLoop(1, GROUPS), n_tasks=1, k_shot=1, prompt_start="mask")
    exact, first = (meta_gradient(method, *settings).gradients.adapter for method in ("maml", "fomaml"))
    assert exact.isfinite().all()
    assert not torch.allclose(exact, first, rtol=0.01)


# The multi-step loss


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("progress", [-1.0, 0.0, 0.3, 1.0, 2.0])
def test_multi_step_weights_sum_to_one_and_the_last_is_the_largest(steps, progress):
    weights = multi_step(steps, progress)
    assert len(weights) == steps + 1
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert weights[-1] == pytest.approx(max(weights))


def test_multi_step_weights_go_from_all_steps_alike_to_the_last_alone():
    assert multi_step(4, 0.0) == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert multi_step(4, 0.5) == pytest.approx([0, 0.125, 0.125, 0.125, 0.625])
    assert multi_step(4, 1.0) == pytest.approx(last_step(4))
    assert last_step(4) == [0, 0, 0, 0, 1]
    assert multi_step(0, 0.0) == last_step(0) == [1.0]
