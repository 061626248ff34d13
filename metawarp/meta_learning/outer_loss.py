"""The outer loss: how well adapted states do on the queries, and what a meta-gradient reports of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metawarp.adaptation.adapt import read, task_logits, task_losses
from metawarp.adaptation.tasks import TaskBatch
from metawarp.model.warp import State, Warp

StepWeights = Sequence[float] | None
"""S + 1 weights of the query losses after 0 … S inner steps; None: the last alone counts."""


@dataclass(frozen=True)
class MetaGradient:
    """What T tasks say about the init.

    Attributes:
        gradients: by tensor name, of the shape of the init's tensors; zero where the method does not reach.
        losses: (T,) query loss of each task after adaptation; with weights for the steps, their weighted sum.
        accuracy: share of the queries that the adapted tasks get right, 0 to 1.
    """

    gradients: State
    losses: Tensor
    accuracy: float


def query_losses(warp: Warp, current: State, tasks: TaskBatch) -> tuple[Tensor, float]:
    """Loss (T,) of each task's queries under its adapted state, and the share of all queries that are right."""
    features = read(warp, current, tasks.query)
    losses = task_losses(warp, current, features, tasks.query, tasks)
    return losses, accuracy(task_logits(warp, current, features, tasks.query, tasks), tasks.query.label)


def all_weights(steps: int, step_weights: StepWeights) -> Sequence[float]:
    """S + 1 weights, whether or not some were given."""
    return step_weights or [0.0] * steps + [1.0]


def multi_step_weights(steps: int, progress: float) -> list[float]:
    """Weights of the query losses after 0 … S steps, annealed from all steps alike to the last alone.

    Args:
        steps: inner steps S.
        progress: how far the annealing is, 0 to 1.

    References:
        Antoniou et al. (2019), "How to train your MAML", ICLR, sec. 4 (multi-step loss optimization).
    """
    shared = (1 - min(max(progress, 0.0), 1.0)) / max(steps, 1)
    return [0.0] + [shared] * (steps - 1) + [1 - shared * (steps - 1)] if steps else [1.0]


def gradients_of(loss: Tensor, state: State) -> State:
    """Gradient of a loss with respect to each tensor of a state; zero for one that is fixed or has no part in it."""
    return pulled_back([loss], [torch.ones_like(loss)], state)


def pulled_back(outputs: Sequence[Tensor], slopes: Sequence[Tensor], state: State) -> State:
    """Slopes with respect to outputs, turned into slopes with respect to the state that these are functions of."""
    learned = {name: tensor for name, tensor in state.items() if tensor.requires_grad}
    found = torch.autograd.grad(outputs, list(learned.values()), slopes, allow_unused=True)
    gradients = {name: gradient for name, gradient in zip(learned, found, strict=True) if gradient is not None}
    return {name: gradients.get(name, torch.zeros_like(tensor)) for name, tensor in state.items()}


def reached(outputs: State, slope: State) -> tuple[list[Tensor], list[Tensor]]:
    """Those outputs that a slope is known of and a gradient runs back through, and their slopes."""
    names = [name for name in slope if outputs[name].requires_grad]
    return [outputs[name] for name in names], [slope[name] for name in names]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of texts whose highest logit is at their label."""
    return float((logits.argmax(-1) == labels).float().mean())
