"""Gradients through the inner loop, two exact ways: the graph kept whole, or made again step by step.

`unroll` holds the graph of all S steps. `recompute` holds the S + 1 states alone, a few thousand numbers each, and
takes one vector-Jacobian product a step on the way back (a Hessian-vector product: the step θ - α·∇L(θ) is
differentiated), so that its memory does not grow with S, at the price of one more first-order pass a step.

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, sec. 2.2.
    Kemaev et al. (2025), "Scalable Meta-Learning via Mixed-Mode Differentiation" (MixFlow-MG), ICML.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from episodes import InputError
from metawarp import processes
from metawarp.adaptation import InnerLoop, inner_rates, moves_prompt, start, step, trajectory
from metawarp.backbone import twice_differentiable
from metawarp.memory import free_bytes, unrolled_bytes
from metawarp.outer_loss import MetaGradient, StepWeights, all_weights, gradients_of, pulled_back, query_losses
from metawarp.tasks import TaskBatch
from metawarp.warp import State, Warp

logger = logging.getLogger(__name__)


def unroll(
    warp: Warp,
    state: State,
    tasks: TaskBatch,
    inner: InnerLoop,
    step_weights: StepWeights = None,
    *,
    second_order: bool = True,
) -> MetaGradient:
    """The gradient of the query loss by one backward pass through the whole inner loop.

    Args:
        warp: the model.
        state: the init's tensors; each gets a gradient.
        tasks: T tasks; their mean loss counts.
        inner: the inner loop.
        step_weights: of the query losses after each step.
        second_order: whether the inner gradients are differentiated too; if not, they count as constants.
    """
    states = trajectory(warp, state, tasks, inner, second_order=second_order)
    total, right = torch.zeros(()), 0.0
    for current, weight in zip(states, all_weights(inner.steps, step_weights), strict=True):
        if weight:
            losses, right = query_losses(warp, current, tasks)
            total = total + weight * losses
    return MetaGradient(gradients_of(total.mean(), state), total.detach(), right)


def recompute(
    warp: Warp, state: State, tasks: TaskBatch, inner: InnerLoop, step_weights: StepWeights = None
) -> MetaGradient:
    """The same gradient as `unroll`, one step at a time from the last to the first.

    Args:
        warp: the model.
        state: the init's tensors; each gets a gradient.
        tasks: T tasks; their mean loss counts.
        inner: the inner loop.
        step_weights: of the query losses after each step.
    """
    if not (moves_prompt(inner) and len(tasks.support)):
        return unroll(warp, state, tasks, inner, step_weights)  # no graph that grows: the features are read once
    frozen = {name: tensor.detach() for name, tensor in state.items()}
    states = [_leaves(current) for current in trajectory(warp, frozen, tasks, inner)]
    rates = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in inner_rates(state).items()}
    weights = all_weights(inner.steps, step_weights)
    total, right = torch.zeros(()), 0.0
    # ∂(outer loss)/∂(state after step s), and ∂/∂(inner learning rates) of the steps after it
    slope = {name: torch.zeros_like(tensor) for name, tensor in states[0].items()}
    rate_slope = {name: torch.zeros_like(tensor) for name, tensor in rates.items()}
    for number in range(inner.steps, -1, -1):
        current = states[number]
        if weights[number]:
            losses, hits = query_losses(warp, current, tasks)
            slope = _sum(slope, gradients_of(weights[number] * losses.mean(), current))
            total = total + weights[number] * losses.detach()
            right = hits if number == inner.steps else right
        if number:
            before = states[number - 1]
            with twice_differentiable(True):
                after = step(warp, rates, before, tasks.support, tasks, inner, number - 1, second_order=True)
            found = _pull_back(after, slope, {**before, **rates})
            slope, rate_slope = {name: found[name] for name in before}, _sum(rate_slope, found)
    gradients = _pull_back(start(warp, state, tasks, inner.groups)[0], slope, state)
    return MetaGradient(_sum(gradients, rate_slope), total, right)


def _pull_back(outputs: State, slope: State, inputs: State) -> State:
    reached = [name for name in slope if outputs[name].requires_grad]
    return pulled_back([outputs[name] for name in reached], [slope[name] for name in reached], inputs)


def _leaves(tensors: State) -> State:
    return {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}


def _sum(one: State, other: dict[str, Tensor]) -> State:
    return {name: tensor + other[name] if name in other else tensor for name, tensor in one.items()}


EXACT: dict[str, Callable[..., MetaGradient]] = {"unroll": unroll, "recompute": recompute}
"""The two ways, by name."""


def exact_mode(asked: str, warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> str:
    """The way that is going to be taken, before anything is allocated.

    Args:
        asked: "unroll", "recompute", or "auto": unroll where its graph fits into half of the free memory.
        warp: the model.
        tasks: T tasks of the run; room is left for later ones of twice their size.
        inner: the inner loop.

    Raises:
        InputError: unrolling was asked for, and its graph would not fit.
    """
    needed, free = 2 * unrolled_bytes(warp, tasks, inner), free_bytes(warp.backbone.device) // processes.beside()
    sizes = f"the graph of {inner.steps} inner steps takes about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free"
    if asked == "unroll" and needed > free:
        raise InputError(f"unrolling does not fit: {sizes}; use --training.second_order recompute, or fewer steps.")
    if asked != "auto" or not needed:
        return "unroll" if asked == "auto" else asked
    chosen = "unroll" if needed <= free / 2 else "recompute"
    logger.info("second order by %s: %s", chosen, sizes)
    return chosen
