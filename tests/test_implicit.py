"""Implicit gradients: the slope of the query loss at a minimum that the inner loop has reached."""

import pytest
import torch
from running import refused
from tiny import central_differences, tiny_episodes, tiny_model

from episodes import EpisodeSampler
from metawarp.adaptation.adapt import trajectory
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.implicit import imaml
from metawarp.meta_learning.second_order import unroll

TO_THE_END = InnerLoop(150, GROUPS, proximal=2.0)


def learning(backbone, inner, k_shot=2, **config):
    warp, state = tiny_model(backbone, inner, learn=True, rates=InnerRates(prompt=0.2, rows=0.2), **config)
    tasks = TaskBatch.encode([tiny_episodes(1, n_way=n, k_shot=k_shot, seed=n)[0] for n in (2, 3)], warp.encoder)
    return warp, state, tasks


def test_at_the_end_of_the_inner_loop_it_is_the_slope_of_the_query_loss(tiny):
    warp, state, tasks = learning(tiny, TO_THE_END)
    *_, before, end = trajectory(warp, {name: tensor.detach() for name, tensor in state.items()}, tasks, TO_THE_END)
    assert all((end[group] - before[group]).abs().max() < 1e-12 for group in GROUPS), "the inner loop has converged"
    found = imaml(warp, state, tasks, TO_THE_END, solver_steps=60)
    for name in ("prompt", "log_scale", "name_weight", "read_out"):
        entries, slopes = central_differences(warp, state, tasks, TO_THE_END, name, entries=4)
        gradient = found.gradients[name].reshape(-1)[torch.from_numpy(entries)]
        assert torch.allclose(gradient, slopes, rtol=1e-4, atol=1e-8), name
        assert slopes.abs().min() > 1e-6
    assert not found.gradients["log_inner_lr.prompt"].any()  # they say how to get to the minimum, not where it is


def test_few_solver_steps_come_close(tiny):
    warp, state, tasks = learning(tiny, TO_THE_END)
    exact, quick = (imaml(warp, state, tasks, TO_THE_END, solver_steps=steps).gradients["prompt"] for steps in (60, 5))
    none = imaml(warp, state, tasks, TO_THE_END, solver_steps=0).gradients["prompt"]
    assert (quick - exact).norm() < 0.2 * (none - exact).norm()


def test_tasks_are_solved_apart(tiny):
    inner = InnerLoop(3, GROUPS, proximal=1.0)
    warp, state, tasks = learning(tiny, inner)
    together = imaml(warp, state, tasks, inner)
    alone = [imaml(warp, state, tasks.task(i), inner) for i in range(2)]
    for name in state:
        mean = torch.stack([one.gradients[name] for one in alone]).mean(0)
        assert torch.allclose(together.gradients[name], mean, rtol=1e-9, atol=1e-12), name


def test_without_support_texts_it_is_the_plain_gradient(tiny):
    inner = InnerLoop(3, GROUPS, proximal=1.0)
    warp, state, tasks = learning(tiny, inner, k_shot=0)
    found, plain = imaml(warp, state, tasks, inner), unroll(warp, state, tasks, InnerLoop(0, ()))
    for name in state:
        assert torch.allclose(found.gradients[name], plain.gradients[name], rtol=0, atol=1e-12), name


def test_a_proximal_term_is_needed_and_not_negative(tiny):
    warp, state, tasks = learning(tiny, InnerLoop(2, GROUPS))
    with refused("imaml needs a proximal term; give the inner loop one above 0."):
        imaml(warp, state, tasks, InnerLoop(2, GROUPS))
    with refused("the proximal term has the weight -1.0; it cannot be negative."):
        InnerLoop(2, GROUPS, proximal=-1.0)


def test_a_product_that_is_not_finite_is_said(tiny):
    inner = InnerLoop(1, GROUPS, proximal=1.0)
    warp, state, tasks = learning(tiny, inner)
    state["log_scale"] = torch.tensor(float("nan"), dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"^a Hessian-vector product is not finite; lower the inner learning rates"):
        imaml(warp, state, tasks, inner)


def test_it_is_finite_on_real_weights_and_leans_the_way_of_maml(minilm, everyday):
    inner = InnerLoop(2, GROUPS, proximal=1.0)
    warp, state = tiny_model(minilm, inner, learn=True)
    tasks = TaskBatch.encode([EpisodeSampler(everyday.train, 3, 2, 2)[0]], warp.encoder)
    found, exact = imaml(warp, state, tasks, inner), unroll(warp, state, tasks, InnerLoop(2, GROUPS))
    one, other = found.gradients["prompt"], exact.gradients["prompt"]
    assert (one * other).sum() > 0.5 * one.norm() * other.norm()
