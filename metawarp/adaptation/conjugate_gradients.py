"""Linear systems of a symmetric operator, solved for several tasks side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metawarp.model.warp import State


def conjugate_gradients(times: Callable[[State], State], right: State, steps: int, *, tolerance: float = 0.0) -> State:
    """x with A·x = right, task by task: the tasks' blocks of A do not touch each other.

    A task stops where the curvature along its direction is not positive (Steihaug, 1983): its problem does not have
    one minimum. If that is the first direction, x is the right side itself, as if A were the identity.

    Args:
        times: vectors to A times them, each (T, …) as those of `right`.
        right: the right side, by name.
        steps: at most.
        tolerance: a task stops where its residual is this fraction of the right side.
    """
    solution = {name: torch.zeros_like(tensor) for name, tensor in right.items()}
    residual = direction = right
    size = first_size = _dots(right, right)
    going = torch.ones_like(size, dtype=torch.bool)
    for number in range(steps):
        image = times(direction)
        curvature = _dots(direction, image)
        going = going & (curvature > 0)
        length = torch.where(going, size / torch.where(going, curvature, 1.0), 1.0 if number == 0 else 0.0)
        solution = {name: solution[name] + _by_task(length, direction[name]) for name in solution}
        residual = {name: residual[name] - _by_task(length, image[name]) for name in residual}
        before, size = size, _dots(residual, residual)
        going = going & (size > tolerance**2 * first_size)
        if not going.any():
            break
        ratio = size / before.clamp(min=torch.finfo(size.dtype).tiny)
        direction = {
            name: residual[name] + _by_task(torch.where(going, ratio, 0.0), direction[name]) for name in residual
        }
    return solution


def _dots(one: State, other: State) -> Tensor:
    """Inner product of each task's part, (T,)."""
    return torch.stack([(one[name] * other[name]).sum(tuple(range(1, one[name].dim()))) for name in one]).sum(0)


def _by_task(factors: Tensor, vectors: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (vectors.dim() - 1)) * vectors
