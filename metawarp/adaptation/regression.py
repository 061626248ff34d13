"""Multinomial logistic regression for several tasks at once, which gradients run through.

The minimum of a convex loss is a function of the examples, so that meta-learning can move what the examples are read
with, and the strength of the fit, until rows fitted to the support texts are right on the queries.

References:
    Lee, Maji, Ravichandran, Soatto (2019), "Meta-Learning with Differentiable Convex Optimization", CVPR, sec. 3.1.
    Bertinetto, Henriques, Torr, Vedaldi (2019), "Meta-learning with differentiable closed-form solvers", ICLR,
    sec. 4.2 (logistic regression by Newton's method).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metawarp.adaptation.conjugate_gradients import conjugate_gradients
from metawarp.model.warp import with_bias

NEWTON_STEPS, SOLVER_STEPS = 30, 100
"""At most; a handful of Newton steps and a dozen of conjugate gradients are enough as a rule."""

HALVINGS, ENOUGH = 8, 0.25
"""Of a Newton step that lowers the loss by less than this share of what its slope promises (Armijo's condition): with
many classes alike, whole steps lower it so little, and from one side to the other, that they never get to the end."""


def fitted_rows(
    features: Tensor, task: Tensor, label: Tensor, weight: Tensor, class_mask: Tensor, strength: Tensor
) -> Tensor:
    """Rows V (T, C, d + 1), the last column a bias, at the minimum of ½·‖V‖² + strength·Σ weight·cross-entropy.

    A class without examples gets a row that speaks against it wherever the others have theirs.

    Args:
        features: (B, d) of the examples of all tasks.
        task: (B,) which task each belongs to.
        label: (B,) its class there.
        weight: (B,) how many examples it counts as.
        class_mask: (T, C) true where a task has that class; the rows of others are zero.
        strength: scalar, scikit-learn's C. The bias is penalized as any other weight is.
    """
    place = (task, _place_in_task(task))
    size = (len(class_mask), int(place[1].max()) + 1)
    examples = with_bias(features)
    x = examples.new_zeros(*size, examples.shape[-1]).index_put(place, examples)
    counts = weight.new_zeros(size).index_put(place, weight) * strength
    targets = torch.zeros(*size, class_mask.shape[1], dtype=x.dtype, device=x.device)
    targets[(*place, label)] = 1

    def chances(rows: Tensor) -> Tensor:
        return _logits(x, rows, class_mask).softmax(-1)

    def slope(rows: Tensor) -> Tensor:
        return rows + (counts[..., None] * (chances(rows) - targets)).transpose(1, 2) @ x

    def loss(rows: Tensor) -> Tensor:
        logs = _logits(x, rows, class_mask).log_softmax(-1).masked_fill(~class_mask[:, None], 0.0)
        return rows.square().sum((1, 2)) / 2 - (counts * (targets * logs).sum(-1)).sum(1)

    def solved(right: Tensor, at: Tensor) -> Tensor:
        """Inverse Hessian of the loss, times the right side."""
        p = chances(at)

        def times(vectors: dict[str, Tensor]) -> dict[str, Tensor]:
            change = x @ vectors["rows"].transpose(1, 2)
            change = p * (change - (p * change).sum(-1, keepdim=True))
            return {"rows": vectors["rows"] + (counts[..., None] * change).transpose(1, 2) @ x}

        return conjugate_gradients(times, {"rows": right}, SOLVER_STEPS, tolerance=_tolerance(x))["rows"]

    with torch.no_grad():
        rows = _minimum(slope, loss, solved, x.new_zeros(*class_mask.shape, x.shape[-1]))
    # The slope is zero here, but what it depends on is not fixed: by the implicit function theorem the minimum moves by
    # minus the inverse Hessian times the change of the slope.
    left = slope(rows)
    if left.requires_grad:
        left.register_hook(lambda gradient: solved(gradient, rows))
    return rows - left


def _minimum(
    slope: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    solved: Callable[[Tensor, Tensor], Tensor],
    rows: Tensor,
) -> Tensor:
    """Newton's method, each task's step halved until its loss falls enough."""
    rounding = 8 * torch.finfo(rows.dtype).eps
    gradient = slope(rows)
    enough = _tolerance(rows) * gradient.flatten(1).norm(dim=1)
    for _ in range(NEWTON_STEPS):
        if bool((gradient.flatten(1).norm(dim=1) <= enough).all()):
            break
        way, before, length = solved(gradient, rows), loss(rows), rows.new_ones(len(rows))
        promised = (gradient * way).sum((1, 2))
        for _ in range(HALVINGS):
            enough_lower = before * (1 + rounding) - ENOUGH * length * promised
            worse = loss(rows - length[:, None, None] * way) > enough_lower
            if not worse.any():
                break
            length = torch.where(worse, length / 2, length)
        rows = rows - length[:, None, None] * way
        gradient = slope(rows)
    return rows


def _tolerance(of: Tensor) -> float:
    """What is left of a slope or residual, as a fraction, when it counts as zero in a tensor's precision."""
    return torch.finfo(of.dtype).eps ** 0.75


def _logits(x: Tensor, rows: Tensor, class_mask: Tensor) -> Tensor:
    return (x @ rows.transpose(1, 2)).masked_fill(~class_mask[:, None], float("-inf"))


def _place_in_task(task: Tensor) -> Tensor:
    """(B,) how many earlier examples are of the same task."""
    counts = torch.bincount(task)
    order = torch.argsort(task, stable=True)
    place = torch.arange(len(task), device=task.device) - (counts.cumsum(0) - counts)[task[order]]
    return torch.empty_like(place).scatter_(0, order, place)
