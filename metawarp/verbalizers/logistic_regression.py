"""Multinomial logistic regression for several tasks at once, differentiable in its examples.

The minimum of the convex loss is a function of the examples. Meta-learning can therefore change how the examples are
read, and how strongly they are fitted, until class embeddings fitted to support texts classify queries well.

References:
    Lee, Maji, Ravichandran, Soatto (2019), "Meta-Learning with Differentiable Convex Optimization", CVPR, sec. 3.1.
    Bertinetto et al. (2019), "Meta-learning with differentiable closed-form solvers", ICLR, sec. 4.2 (Newton's method).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from metawarp.texts.task_batch import index_in_task
from metawarp.verbalizers.conjugate_gradients import conjugate_gradients

NEWTON_STEPS, SOLVER_STEPS = 30, 100
"""Upper limits; usually a few Newton steps and a dozen steps of conjugate gradients are enough."""

LEAST_ACCURACY = 0.1
"""Largest residual of the linear system of a Newton step, as a fraction of the gradient."""

HALVINGS, SUFFICIENT_DECREASE = 8, 0.25
"""A Newton step is halved while the loss falls by less than this fraction of what the gradient predicts (Armijo's
condition). With many similar classes, whole steps overshoot from one side to the other and never converge."""


@dataclass(frozen=True)
class Examples:
    """B examples of T tasks.

    Attributes:
        features: (B, d) features.
        task: (B,) index of each example's task.
        targets: (B, C) probability of each class of the task.
        count: (B,) number of examples that each one counts as.
    """

    features: Tensor
    task: Tensor
    targets: Tensor
    count: Tensor

    @classmethod
    def joined(cls, parts: "Iterable[Examples]") -> Self:
        """The examples of all parts."""
        columns = zip(*((one.features, one.task, one.targets, one.count) for one in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


def fit_logistic_regression(
    examples: Examples,
    class_mask: Tensor,
    strength: Tensor,
    start: Tensor | None = None,
    tolerance: float | None = None,
) -> Tensor:
    """Weights V (T, C, d + 1), bias last, at the minimum of ½·‖V‖² + strength·Σ count·cross-entropy.

    A class without examples gets weights that speak against it wherever the other classes have their examples.

    Args:
        examples: examples of T tasks.
        class_mask: (T, C), true where a task has that class; the weights of other classes are zero.
        strength: scikit-learn's C of each task (T,), or of all tasks (). The bias is penalized like any other weight.
        start: weights near the minimum, where the search begins; None: zero.
        tolerance: norm of the gradient at the result, as a fraction of its norm at zero; None: as exactly as the data
            type allows.
    """
    place = (examples.task, index_in_task(examples.task))
    size = (len(class_mask), int(place[1].max()) + 1)
    features, count, targets = with_bias(examples.features), examples.count, examples.targets
    x = features.new_zeros(*size, features.shape[-1]).index_put(place, features)
    counts = count.new_zeros(size).index_put(place, count) * strength[..., None]
    targets = targets.new_zeros(*size, targets.shape[1]).index_put(place, targets)
    problem = _Problem(x, counts, targets, class_mask)
    with torch.no_grad():
        solved, basis = problem.detached().in_row_space()
        start = None if start is None else start.detach() @ basis
        weights = _minimum(solved, start, tolerance or solved.tolerance) @ basis.mT
    return _ImplicitMinimum.apply(problem.gradient(weights), weights, solved, basis)


def with_bias(features: Tensor) -> Tensor:
    """Features (…, d) followed by a one, (…, d + 1), to be multiplied with weights and bias."""
    return pad(features, (0, 1), value=1.0)


@dataclass(frozen=True)
class _Problem:
    """T regressions of up to E examples.

    Attributes:
        x: (T, E, d + 1) examples with a one; zero where a task has fewer.
        counts: (T, E) weight of each example in the loss, strength included.
        targets: (T, E, C) probabilities of the classes.
        class_mask: (T, C), true where a task has that class.
    """

    x: Tensor
    counts: Tensor
    targets: Tensor
    class_mask: Tensor

    def detached(self) -> "_Problem":
        return _Problem(self.x.detach(), self.counts.detach(), self.targets.detach(), self.class_mask)

    def in_row_space(self) -> "tuple[_Problem, Tensor]":
        """The same problem in coordinates of the space that the examples span, and an orthonormal basis (T, d + 1, m)
        of that space. The minimum is in it, and it is much smaller if there are fewer examples than dimensions."""
        if self.x.shape[1] > 2 * self.x.shape[2]:
            return self, torch.eye(self.x.shape[2]).to(self.x).expand(len(self.x), -1, -1)
        basis, coordinates = torch.linalg.qr(self.x.mT)
        return replace(self, x=coordinates.mT), basis

    @property
    def tolerance(self) -> float:
        """Fraction of a gradient or residual that counts as zero in the precision of the data."""
        return torch.finfo(self.x.dtype).eps ** 0.75

    def _logits(self, weights: Tensor) -> Tensor:
        return (self.x @ weights.transpose(1, 2)).masked_fill(~self.class_mask[:, None], float("-inf"))

    def loss(self, weights: Tensor) -> Tensor:
        """Loss (T,) of each task."""
        log_probabilities = self._logits(weights).log_softmax(-1).masked_fill(~self.class_mask[:, None], 0.0)
        return weights.square().sum((1, 2)) / 2 - (self.counts * (self.targets * log_probabilities).sum(-1)).sum(1)

    def gradient(self, weights: Tensor) -> Tensor:
        """Gradient (T, C, d + 1) of the loss."""
        errors = self.counts[..., None] * (self._logits(weights).softmax(-1) - self.targets)
        return weights + errors.transpose(1, 2) @ self.x

    def inverse_hessian_times(self, right: Tensor, weights: Tensor, tolerance: float | Tensor) -> Tensor:
        """Inverse Hessian of the loss at some weights, times a right side (T, C, d + 1), up to a residual that is a
        fraction `tolerance`, () or (T,), of the right side."""
        probabilities = self._logits(weights).softmax(-1)

        def times_hessian(vectors: Tensor) -> Tensor:
            change = self.x @ vectors.transpose(1, 2)
            change = probabilities * (change - (probabilities * change).sum(-1, keepdim=True))
            return vectors + (self.counts[..., None] * change).transpose(1, 2) @ self.x

        return conjugate_gradients(times_hessian, right, SOLVER_STEPS, tolerance)


class _ImplicitMinimum(torch.autograd.Function):
    """The minimum as a differentiable function of the examples, by the implicit function theorem.

    The gradient g of the loss is zero at the minimum, but it depends on the examples: the minimum moves by minus the
    inverse Hessian times the change of g. Outside of the space that the examples span, the Hessian is the identity.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weights: Tensor, problem: _Problem, basis: Tensor) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(weights, basis)
        return weights - gradient

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None, None]:
        weights, basis = ctx.saved_tensors
        problem: _Problem = ctx.problem
        inside = grad_outputs[0] @ basis
        solved = problem.inverse_hessian_times(inside, weights @ basis, problem.tolerance)
        return -(grad_outputs[0] + (solved - inside) @ basis.mT), None, None, None


def _minimum(problem: _Problem, start: Tensor | None, tolerance: float) -> Tensor:
    """Newton's method, from zero or from a start; the step of each task is halved until its loss falls enough.

    Far from the minimum, a direction need not be exact: it is solved for up to a fraction of the gradient that shrinks
    with the gradient, which keeps the fast convergence (Nocedal, Wright, 2006, "Numerical Optimization", sec. 7.1).
    """
    weights = problem.x.new_zeros(*problem.class_mask.shape, problem.x.shape[-1])
    rounding = 8 * torch.finfo(weights.dtype).eps
    gradient = problem.gradient(weights)
    first_norm = gradient.flatten(1).norm(dim=1)
    if start is not None:
        weights, gradient = start, problem.gradient(start)
    for _ in range(NEWTON_STEPS):
        norm = gradient.flatten(1).norm(dim=1)
        if bool((norm <= tolerance * first_norm).all()):
            break
        progress = norm / first_norm.clamp(min=torch.finfo(norm.dtype).tiny)
        accuracy = progress.sqrt().clamp(problem.tolerance, LEAST_ACCURACY)
        direction = problem.inverse_hessian_times(gradient, weights, accuracy)
        loss, length = problem.loss(weights), weights.new_ones(len(weights))
        predicted = (gradient * direction).sum((1, 2))
        for _ in range(HALVINGS):
            limit = loss * (1 + rounding) - SUFFICIENT_DECREASE * length * predicted
            worse = problem.loss(weights - length[:, None, None] * direction) > limit
            if not worse.any():
                break
            length = torch.where(worse, length / 2, length)
        weights = weights - length[:, None, None] * direction
        gradient = problem.gradient(weights)
    return weights
