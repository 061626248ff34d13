"""Linear systems with a symmetric matrix, solved by conjugate gradients for several tasks side by side."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    times_matrix: Callable[[Tensor], Tensor], right: Tensor, max_steps: int, tolerance: float | Tensor = 0.0
) -> Tensor:
    """The solution x (T, …) of A·x = right, where `times_matrix` is the function from x to A·x, a block for each task.

    A task stops when its residual is a fraction `tolerance`, one for all or (T,), of its right side, or where the
    curvature along its direction is not positive (Steihaug, 1983), because its problem has no unique minimum. If that
    is the first direction, x is the right side itself, as if A were the identity.
    """
    solution = torch.zeros_like(right)
    residual = direction = right
    size = first_size = _inner_products(right, right)
    active = torch.ones_like(size, dtype=torch.bool)
    for number in range(max_steps):
        image = times_matrix(direction)
        curvature = _inner_products(direction, image)
        active = active & (curvature > 0)
        length = torch.where(active, size / torch.where(active, curvature, 1.0), 1.0 if number == 0 else 0.0)
        solution = solution + _per_task(length, direction)
        residual = residual - _per_task(length, image)
        previous, size = size, _inner_products(residual, residual)
        active = active & (size > tolerance**2 * first_size)
        if not active.any():
            break
        ratio = size / previous.clamp(min=torch.finfo(size.dtype).tiny)
        direction = residual + _per_task(torch.where(active, ratio, 0.0), direction)
    return solution


def _inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner product (T,) of each task's part."""
    return (left * right).flatten(1).sum(1)


def _per_task(factors: Tensor, vectors: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (vectors.dim() - 1)) * vectors
