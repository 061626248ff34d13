"""Gradients through the inner loop, two exact ways: the graph kept whole, or made again step by step.

`unroll` holds the graph of all S steps. `recompute` holds the states before them, a few thousand numbers each, and
takes one vector-Jacobian product a step on the way back (a Hessian-vector product: the step θ - α·∇L(θ) is
differentiated), so that its memory does not grow with S, at the price of S - 1 more first-order passes.

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, sec. 2.2.
    Kemaev et al. (2025), "Scalable Meta-Learning via Mixed-Mode Differentiation" (MixFlow-MG), ICML.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from episodes import InputError
from metawarp import processes
from metawarp.adaptation.adapt import start, step, trajectory
from metawarp.adaptation.inner_loop import InnerLoop, inner_rates, reads_again
from metawarp.adaptation.memory import MemoryLimitError, free_bytes, unrolled_bytes
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import twice_differentiable
from metawarp.meta_learning.outer_loss import (
    MetaGradient,
    StepWeights,
    all_weights,
    gradients_of,
    pulled_back,
    query_losses,
    reached,
)
from metawarp.model.warp import State, Warp

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
    if not (reads_again(warp, inner) and len(tasks.support)):
        return unroll(warp, state, tasks, inner, step_weights)  # no graph that grows: the features are read once
    if inner.proximal:
        raise InputError("recompute does not know the proximal term; use unroll, or the method imaml.")
    # The first step is taken together with the start, the last together with the queries: both are run but once.
    frozen = {name: tensor.detach() for name, tensor in state.items()}
    short = replace(inner, steps=inner.steps - 1)
    # Leaves: the rows of each state would hold the graph of the start.
    states = [_leaves(one) for one in trajectory(warp, frozen, tasks, short)] if short.steps else []
    rates = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in inner_rates(state).items()}
    weights = all_weights(inner.steps, step_weights)
    total, right = torch.zeros(()), 0.0
    slope: State = {}  # ∂(outer loss)/∂(state after the step at hand)
    rate_slope = {name: torch.zeros_like(tensor) for name, tensor in rates.items()}
    for number in range(inner.steps, 0, -1):
        with twice_differentiable(True):
            if number > 1:
                before, features, inputs = states[number - 1], None, rates
            else:
                before, features = start(warp, state, tasks, inner.groups)
                inputs = state
            after = step(
                warp, inputs, before, tasks.support, tasks, inner, number - 1, features=features, second_order=True
            )
        outputs, slopes = reached(after, slope)
        for current, weight in ((after, weights[number]), (before, weights[0] if number == 1 else 0.0)):
            if weight:
                losses, hits = query_losses(warp, current, tasks)
                total = total + weight * losses.detach()
                right = hits if number == inner.steps and current is after else right
                outputs.append(weight * losses.mean())
                slopes.append(torch.ones_like(outputs[-1]))
        found = pulled_back(outputs, slopes, {**(before if number > 1 else {}), **inputs})
        slope = {name: found[name] for name in before} if number > 1 else found
        rate_slope = {name: total_slope + found[name] for name, total_slope in rate_slope.items()}
    return MetaGradient({**slope, **rate_slope}, total, right)


def _leaves(tensors: State) -> State:
    return {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}


EXACT: dict[str, Callable[..., MetaGradient]] = {"unroll": unroll, "recompute": recompute}
"""The two ways, by name."""


def exact_mode(asked: str, warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> str:
    """The way that is going to be taken, before anything is allocated.

    Args:
        asked: "unroll", "recompute", or "auto": unroll where its graph fits into half of the free memory.
        warp: the model.
        tasks: the T tasks of a meta-batch, which all processes share; room is left for later ones of twice their size.
        inner: the inner loop.

    Raises:
        MemoryLimitError: unrolling was asked for, and its graph would not fit.
    """
    needed = 2 * unrolled_bytes(warp, tasks, inner) // processes.count()
    free = free_bytes(warp.backbone.device) // processes.beside()
    sizes = f"the graph of {inner.steps} inner steps takes about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free"
    if asked == "unroll" and needed > free:
        raise MemoryLimitError(
            f"unrolling does not fit: {sizes}; use --training.second_order recompute, or fewer steps."
        )
    if asked != "auto" or not needed:
        return "unroll" if asked == "auto" else asked
    chosen = "unroll" if needed <= free / 2 else "recompute"
    logger.info("second order by %s: %s", chosen, sizes)
    return chosen
