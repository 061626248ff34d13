"""Linear systems with a symmetric matrix, solved by conjugate gradients for several tasks side by side."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    times_matrix: Callable[[Tensor], Tensor],
    right: Tensor,
    max_steps: int,
    tolerance: float | Tensor = 0.0,
    scaling: Tensor | None = None,
) -> Tensor:
    """The solution x (T, …) of A·x = right, where `times_matrix` is the function from x to A·x, a block for each task.

    A task stops when its residual is a fraction `tolerance`, one for all or (T,), of its right side, or where the
    curvature along its direction is not positive (Steihaug, 1983), because its problem has no unique minimum. If that
    is the first direction, x is the right side itself, as if A were the identity.

    `scaling` is a preconditioner: an estimate of the inverse of A's diagonal, of the shape of x. None: the identity.

    References:
        Nocedal, Wright (2006), "Numerical Optimization", algorithm 5.3.
    """
    solution = torch.zeros_like(right)
    residual = right
    direction = right if scaling is None else scaling * right
    size = first_size = _inner_products(right, right)
    product = size if scaling is None else _inner_products(right, direction)
    active = torch.ones_like(size, dtype=torch.bool)
    for number in range(max_steps):
        image = times_matrix(direction)
        curvature = _inner_products(direction, image)
        active = active & (curvature > 0)
        length = torch.where(active, product / torch.where(active, curvature, 1.0), 1.0 if number == 0 else 0.0)
        solution = solution + _per_task(length, direction)
        residual = residual - _per_task(length, image)
        size = _inner_products(residual, residual)
        active = active & (size > tolerance**2 * first_size)
        if not active.any():
            break
        scaled = residual if scaling is None else scaling * residual
        previous, product = product, size if scaling is None else _inner_products(residual, scaled)
        ratio = product / previous.clamp(min=torch.finfo(size.dtype).tiny)
        direction = scaled + _per_task(torch.where(active, ratio, 0.0), direction)
    return solution


def _inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner product (T,) of each task's part."""
    return (left * right).flatten(1).sum(1)


def _per_task(factors: Tensor, vectors: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (vectors.dim() - 1)) * vectors
