"""Multinomial logistic regression for several tasks at once, differentiable in its examples.

The minimum of the convex loss is a function of the examples. Meta-learning can therefore change how the examples are
read, and how strongly they are fitted, until class embeddings fitted to support texts classify queries well.

References:
    Lee, Maji, Ravichandran, Soatto (2019), "Meta-Learning with Differentiable Convex Optimization", CVPR, sec. 3.1.
    Bertinetto et al. (2019), "Meta-learning with differentiable closed-form solvers", ICLR, sec. 4.2 (Newton's method).
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metawarp.texts.task_batch import index_in_task
from metawarp.verbalizers.regression_problem import Examples, Problem

NEWTON_STEPS = 30
"""Upper limit; usually a few Newton steps are enough."""

LEAST_ACCURACY = 0.1
"""Largest residual of the linear system of a Newton step, as a fraction of the gradient."""

HALVINGS, SUFFICIENT_DECREASE = 8, 0.25
"""A Newton step is halved while the loss falls by less than this fraction of what the gradient predicts (Armijo's
condition). With many similar classes, whole steps overshoot from one side to the other and never converge."""


def fit_logistic_regression(examples: Examples, class_mask: Tensor, strength: Tensor) -> Tensor:
    """Weights V (T, C, d + 1), bias last, at the minimum of ½·‖V‖² + strength·Σ count·cross-entropy.

    A class without examples gets weights that speak against it wherever the other classes have their examples.

    Args:
        examples: examples of T tasks.
        class_mask: (T, C), true where a task has that class; the weights of other classes are zero.
        strength: scikit-learn's C of each task (T,), or of all tasks (). The bias is penalized like any other weight.
    """
    problem = Problem.of(examples, class_mask, strength)
    with torch.no_grad():
        solved, basis = problem.detached().in_row_space()
    return _differentiable_minimum(problem, solved, basis, None)


@dataclass(frozen=True)
class RepeatedFit:
    """Fits to the same examples, whose targets change from one fit to the next.

    Attributes:
        problem: the problem in the features, whose minima can be differentiated; None if they need not be.
        solved: the problem along the principal axes of the examples.
        basis: (T, d + 1, m) the axes.
        place: task, and index in the task, of each of B examples.
    """

    problem: Problem | None
    solved: Problem
    basis: Tensor
    place: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, examples: Examples, class_mask: Tensor, strength: Tensor, *, differentiable: bool) -> Self:
        """Fits to these examples; the other arguments are those of `fit_logistic_regression`."""
        problem = Problem.of(examples, class_mask, strength)
        with torch.no_grad():
            solved, basis = problem.detached().in_principal_axes()
        place = examples.task, index_in_task(examples.task)
        return cls(problem if differentiable else None, solved, basis, place)

    def logits(self, weights: Tensor) -> Tensor:
        """Logits (B, C) of the examples under weights (T, C, d + 1) in the space that the examples span."""
        if self.problem is not None:
            return self.problem.logits(weights)[self.place]
        return self.solved.logits(weights @ self.basis)[self.place]

    def minimum(self, targets: Tensor, start: Tensor, tolerance: float) -> Tensor:
        """Weights (T, C, d + 1) at the minimum for targets (B, C).

        Args:
            targets: probability of each class for each of B examples.
            start: weights near the minimum, in the space that the examples span, where the search begins.
            tolerance: norm of the gradient at the result, as a fraction of its norm at zero. If minima can be
                differentiated, they are exact up to the data type.
        """
        targets = targets.new_zeros(self.solved.targets.shape).index_put(self.place, targets)
        solved = replace(self.solved, targets=targets.detach())
        with torch.no_grad():
            first = start.detach() @ self.basis
        if self.problem is None:
            return _minimum(solved, first, tolerance) @ self.basis.mT
        return _differentiable_minimum(replace(self.problem, targets=targets), solved, self.basis, first)


def _differentiable_minimum(problem: Problem, solved: Problem, basis: Tensor, start: Tensor | None) -> Tensor:
    """Weights (T, C, d + 1) at the minimum of a problem, which is solved in other coordinates."""
    with torch.no_grad():
        weights = _minimum(solved, start, solved.tolerance) @ basis.mT
    return _ImplicitMinimum.apply(problem.gradient(weights), weights, solved, basis)


class _ImplicitMinimum(torch.autograd.Function):
    """The minimum as a differentiable function of the examples, by the implicit function theorem.

    The gradient g of the loss is zero at the minimum, but it depends on the examples: the minimum moves by minus the
    inverse Hessian times the change of g. Outside of the space that the examples span, the Hessian is the identity.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weights: Tensor, problem: Problem, basis: Tensor) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(weights, basis)
        return weights - gradient

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None, None]:
        weights, basis = ctx.saved_tensors
        problem: Problem = ctx.problem
        inside = grad_outputs[0] @ basis
        solved = problem.inverse_hessian_times(inside, weights @ basis, problem.tolerance)
        return -(grad_outputs[0] + (solved - inside) @ basis.mT), None, None, None


def _minimum(problem: Problem, start: Tensor | None, tolerance: float) -> Tensor:
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
