"""Exact gradients through the inner loop, in two ways: with the whole graph, or recomputed step by step.

`unroll` keeps the graph of all S steps. `recompute` keeps the parameters before each step, a few thousand numbers, and
takes one vector-Jacobian product per step on the way back (a Hessian-vector product, because the step θ - α·∇L(θ) is
differentiated). Its memory does not grow with S, at the price of S - 1 more first-order passes.

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, sec. 2.2.
    Kemaev et al. (2025), "Scalable Meta-Learning via Mixed-Mode Differentiation" (MixFlow-MG), ICML.
"""

import logging
from typing import Literal

import torch
from torch import Tensor

from metawarp.adaptation.memory import free_bytes, unrolled_bytes
from metawarp.adaptation.trajectory import inner_steps, trajectory
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import InnerLoop
from metawarp.errors import MemoryLimitError
from metawarp.meta_learning.meta_gradient import (
    MetaBatch,
    MetaGradient,
    SecondOrder,
    gradients_of,
    query_losses,
    vector_jacobian,
)
from metawarp.parameters import InitParameters, TaskParameters, mapped, tensors_of
from metawarp.processes import SINGLE, Processes
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

logger = logging.getLogger(__name__)


def unroll(init: InitParameters, batch: MetaBatch, *, second_order: bool = True) -> MetaGradient:
    """The gradient of the query loss by one backward pass through the whole inner loop.

    Without `second_order`, the inner gradients count as constants.
    """
    states = trajectory(batch.warp, init, batch.tasks, batch.inner, second_order=second_order).states
    steps = inner_steps(batch.warp, init, batch.tasks, batch.inner)
    total, query_accuracy = torch.zeros(()), 0.0
    for parameters, weight in zip(states, batch.loss_weights, strict=True):
        if weight:
            finished, _ = steps.finish(parameters)
            losses, query_accuracy = query_losses(batch.warp, finished, batch.tasks)
            total = total + weight * losses
    return MetaGradient(gradients_of(total.mean(), init), total.detach(), query_accuracy)


def recompute(init: InitParameters, batch: MetaBatch) -> MetaGradient:
    """The same gradient as `unroll`, computed one step at a time from the last to the first."""
    warp, tasks, inner, weights = batch.warp, batch.tasks, batch.inner, batch.loss_weights
    if not (warp.reads_again(inner) and len(tasks.support)):
        return unroll(init, batch)  # the graph does not grow: the features are read once
    # The first step is taken together with the start, and the last together with the queries: both run once.
    n_steps = inner.inner_steps
    frozen, short = mapped(init, Tensor.detach), inner.with_steps(n_steps - 1)
    # Leaves, because the class embeddings of each state would hold the graph of the start.
    states = trajectory(warp, frozen, tasks, short).states if n_steps > 1 else []
    states = [mapped(state, lambda tensor: tensor.detach().requires_grad_()) for state in states]
    leaves = mapped(init, lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
    # What each step uses of the init by itself, such as learning rates, beside the parameters that it starts from.
    used = {name: tensor for name, tensor in tensors_of(leaves).items() if name != "adapter"}
    used_gradients = {name: torch.zeros_like(tensor) for name, tensor in used.items()}
    total, query_accuracy = torch.zeros(()), 0.0
    gradients: dict[str, Tensor] = {}  # of the outer loss with respect to the parameters after the current step
    for number in range(n_steps, 0, -1):
        first = number == 1
        with twice_differentiable(True):
            steps = inner_steps(warp, init if first else leaves, tasks, inner)
            before, examples = steps.begin() if first else (states[number - 1], None)
            features = examples and examples.support
            after, _ = steps.step(before, tasks.support, number - 1, features=features, second_order=True)
        outputs, vectors = _with_known_gradient(after, gradients)
        for parameters, weight in ((after, weights[number]), (before, weights[0] if first else 0.0)):
            if weight:
                losses, accuracy = query_losses(warp, steps.finish(parameters)[0], tasks)
                total = total + weight * losses.detach()
                query_accuracy = accuracy if number == n_steps and parameters is after else query_accuracy
                outputs.append(weight * losses.mean())
                vectors.append(torch.ones_like(outputs[-1]))
        variables = tensors_of(init) if first else {**tensors_of(before), **used}
        gradients = vector_jacobian(outputs, vectors, variables)
        used_gradients = {name: gradient + gradients[name] for name, gradient in used_gradients.items()}
    return MetaGradient(InitParameters(**{**gradients, **used_gradients}), total, query_accuracy)


def choose_second_order(
    choice: SecondOrder | Literal["auto"], warp: Warp, tasks: TaskBatch, inner: InnerLoop, processes: Processes = SINGLE
) -> SecondOrder:
    """How second-order gradients are computed; "auto" unrolls if the graph fits into half of the free memory.

    `tasks` are the T tasks of a whole step, which processes share. Later tasks may be longer, so the estimate is
    doubled. MemoryLimitError, before anything is allocated, if "unroll" was chosen and the graph would not fit.
    """
    needed = 2 * unrolled_bytes(warp, tasks, inner) // processes.count
    free = free_bytes(warp.backbone.device) // processes.sharing_memory
    steps = inner.inner_steps
    sizes = f"the graph of {steps} inner steps needs about {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free"
    if choice == "unroll" and needed > free:
        advice = "use second_order='recompute', or fewer inner_steps"
        raise MemoryLimitError(f"second_order='unroll' does not fit: {sizes}; {advice}.")
    if choice != "auto":
        return choice
    if not needed:
        return "unroll"
    chosen: SecondOrder = "unroll" if needed <= free / 2 else "recompute"
    logger.info("second_order=%r: %s", chosen, sizes)
    return chosen


def _with_known_gradient(parameters: TaskParameters, gradients: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The differentiable parameters whose gradient is known, and these gradients."""
    tensors = tensors_of(parameters)
    names = [name for name in gradients if name in tensors and tensors[name].requires_grad]
    return [tensors[name] for name in names], [gradients[name] for name in names]
