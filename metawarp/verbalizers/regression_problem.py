"""The loss of several multinomial logistic regressions side by side: its gradient, and its inverse Hessian.

References:
    Böhning (1992), "Multinomial logistic regression algorithm", AISM (the form of the Hessian).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from metawarp.texts.task_batch import index_in_task
from metawarp.verbalizers.conjugate_gradients import conjugate_gradients

SOLVER_STEPS = 100
"""Upper limit of the steps of conjugate gradients; usually a dozen are enough."""


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


def with_bias(features: Tensor) -> Tensor:
    """Features (…, d) followed by a one, (…, d + 1), to be multiplied with weights and bias."""
    return pad(features, (0, 1), value=1.0)


@dataclass(frozen=True)
class Problem:
    """T regressions of up to E examples.

    Attributes:
        x: (T, E, d + 1) examples with a one; zero where a task has fewer.
        counts: (T, E) weight of each example in the loss, strength included.
        targets: (T, E, C) probabilities of the classes.
        class_mask: (T, C), true where a task has that class.
        spread: (T, m), weighted sum of squares of the examples along each of m principal axes, if the coordinates are
            along these; None for other coordinates.
    """

    x: Tensor
    counts: Tensor
    targets: Tensor
    class_mask: Tensor
    spread: Tensor | None = None

    @classmethod
    def of(cls, examples: Examples, class_mask: Tensor, strength: Tensor) -> Self:
        """The problem of some examples; see `fit_logistic_regression`."""
        place = (examples.task, index_in_task(examples.task))
        size = (len(class_mask), int(place[1].max()) + 1)
        features, count, targets = with_bias(examples.features), examples.count, examples.targets
        x = features.new_zeros(*size, features.shape[-1]).index_put(place, features)
        counts = count.new_zeros(size).index_put(place, count) * strength[..., None]
        targets = targets.new_zeros(*size, targets.shape[1]).index_put(place, targets)
        return cls(x, counts, targets, class_mask)

    def detached(self) -> Self:
        """The same problem without gradients."""
        return replace(self, x=self.x.detach(), counts=self.counts.detach(), targets=self.targets.detach())

    def in_row_space(self) -> tuple[Self, Tensor]:
        """The same problem in coordinates of the space that the examples span, and an orthonormal basis (T, d + 1, m)
        of that space. The minimum is in it, and it is much smaller if there are fewer examples than dimensions."""
        basis, coordinates = torch.linalg.qr(self.x.mT)
        return replace(self, x=coordinates.mT), basis

    def in_principal_axes(self) -> tuple[Self, Tensor]:
        """The same problem in coordinates along the principal axes of the weighted examples, and the axes (T, d + 1, m)
        as an orthonormal basis. There, the Hessian of each class is nearly diagonal. It pays for many fits to the same
        examples."""
        problem, basis = self.in_row_space() if self.x.shape[1] < self.x.shape[2] else (self, None)
        squares = (problem.counts[..., None] * problem.x).mT @ problem.x
        spread, axes = torch.linalg.eigh(squares)
        basis = axes if basis is None else basis @ axes
        return replace(problem, x=problem.x @ axes, spread=spread.clamp(min=0)), basis

    @property
    def tolerance(self) -> float:
        """Fraction of a gradient or residual that counts as zero in the precision of the data."""
        return torch.finfo(self.x.dtype).eps ** 0.75

    def logits(self, weights: Tensor) -> Tensor:
        """Logits (T, E, C) of the examples; -inf for a class that the task lacks."""
        return (self.x @ weights.transpose(1, 2)).masked_fill(~self.class_mask[:, None], float("-inf"))

    def loss(self, weights: Tensor) -> Tensor:
        """Loss (T,) of each task."""
        log_probabilities = self.logits(weights).log_softmax(-1).masked_fill(~self.class_mask[:, None], 0.0)
        return weights.square().sum((1, 2)) / 2 - (self.counts * (self.targets * log_probabilities).sum(-1)).sum(1)

    def gradient(self, weights: Tensor) -> Tensor:
        """Gradient (T, C, d + 1) of the loss."""
        errors = self.counts[..., None] * (self.logits(weights).softmax(-1) - self.targets)
        return weights + errors.transpose(1, 2) @ self.x

    def inverse_hessian_times(self, right: Tensor, weights: Tensor, tolerance: float | Tensor) -> Tensor:
        """Inverse Hessian of the loss at some weights, times a right side (T, C, d + 1), up to a residual that is a
        fraction `tolerance`, () or (T,), of the right side."""
        probabilities = self.logits(weights).softmax(-1)
        scaling = None if self.spread is None else 1 / self._mean_curvature(probabilities, self.spread)

        def times_hessian(vectors: Tensor) -> Tensor:
            change = self.x @ vectors.transpose(1, 2)
            change = probabilities * (change - (probabilities * change).sum(-1, keepdim=True))
            return vectors + (self.counts[..., None] * change).transpose(1, 2) @ self.x

        return conjugate_gradients(times_hessian, right, SOLVER_STEPS, tolerance, scaling)

    def _mean_curvature(self, probabilities: Tensor, spread: Tensor) -> Tensor:
        """Diagonal (T, C, m) of the Hessian, as if p·(1 - p) of a class were the same for all examples of a task."""
        weight = (self.counts[..., None] * probabilities * (1 - probabilities)).sum(1)
        weight = weight / self.counts.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        return 1 + weight[..., None] * spread[:, None]
