"""Leave-one-out losses: each support text is classified by the other support texts and the class names.

Such a loss measures how well the features generalize. Memorizing a text does not lower it, because the text has no part
in the class embeddings that it is compared with. A text whose class has no other text and no name is not counted.

References:
    Snell, Swersky, Zemel (2017), "Prototypical Networks for Few-shot Learning", NeurIPS, eq. 1 (class means).
    Bertinetto et al. (2019), "Meta-learning with differentiable closed-form solvers", ICLR, sec. 3 (ridge regression).
    Allen (1974), "The Relationship between Variable Selection and Data Augmentation and a Method for Prediction",
    Technometrics 16, eq. 6 (exact leave-one-out residuals of a regression).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from metawarp.config import InnerLossName
from metawarp.texts.task_batch import TaskBatch

RIDGE_PENALTY = 0.5
"""Penalty of the ridge regressions, for features of unit length."""


@dataclass(frozen=True)
class SupportSets:
    """The support sets of T tasks side by side.

    Attributes:
        texts: (T, E, d) features of up to E support texts; zero where a task has fewer.
        targets: (T, E, C) one-hot labels; zero where a task has fewer texts.
        names: (T, C, d) features of class names; zero for classes without one.
        has_name: (T, C), 1 for classes with a name, else 0.
        class_mask: (T, C), true where a task has that class.
    """

    texts: Tensor
    targets: Tensor
    names: Tensor
    has_name: Tensor
    class_mask: Tensor

    @classmethod
    def of(cls, tasks: TaskBatch, names: Tensor | None, support: Tensor) -> Self:
        """From the features of the class names (N, d), if classes have names, and of the support texts (B, d)."""
        texts, shape = tasks.support, tasks.shots.shape
        place = (texts.task, texts.index_in_task)
        size = (len(tasks), int(place[1].max()) + 1)
        padded = support.new_zeros(*size, support.shape[1]).index_put(place, support)
        targets = support.new_zeros(*size, shape[1])
        targets[(*place, texts.label)] = 1
        named, has_name = support.new_zeros(*shape, support.shape[1]), support.new_zeros(shape)
        if names is not None:
            named = named.index_put((tasks.names.task, tasks.names.label), names)
            has_name = tasks.has_name.to(support)
        return cls(padded, targets, named, has_name, tasks.class_mask)

    def loss(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy (T,) of the logits (T, E, C) over the classes, and over the texts of each that count; 0
        for a task without such texts."""
        others = self.targets.sum(1) - 1 + self.has_name
        counted = self.targets * ((others > 0) / self.targets.sum(1).clamp(min=1))[:, None]
        log_probabilities = logits.masked_fill(~self.class_mask[:, None], float("-inf")).log_softmax(-1)
        losses = -(counted * log_probabilities.masked_fill(counted == 0, 0.0)).sum((1, 2))
        return losses / counted.sum((1, 2)).clamp(min=1)


def class_means(sets: SupportSets, scale: Tensor) -> Tensor:
    """Logits (T, E, C): cosines between texts and class means, times a scale (T,); a name is one more text.

    A text is subtracted from the mean of its own class.
    """
    sums = sets.targets.mT @ sets.texts + sets.names
    products, squares = sets.texts @ sums.mT, sums.square().sum(-1)[:, None]
    own = sets.texts.square().sum(-1, keepdim=True) * sets.targets
    squares = squares - 2 * products * sets.targets + own
    smallest = torch.finfo(squares.dtype).eps
    lengths = (sets.texts.square().sum(-1, keepdim=True) * squares).clamp(min=smallest).sqrt()
    return scale[:, None, None] * (products - own) / lengths


def ridge(sets: SupportSets, scale: Tensor) -> Tensor:
    """Logits (T, E, C): predictions of a ridge regression on all other texts and the names, times a scale (T,).

    The residual of a left-out text is its residual in the regression on all texts, divided by 1 - h, where h is its
    entry in the diagonal of the hat matrix.
    """
    rows, targets = torch.cat([sets.texts, sets.names], dim=1), _centred(sets)
    kernel = rows @ rows.mT
    inverse = torch.linalg.inv(_penalized(kernel))
    residuals = (inverse @ targets) / inverse.diagonal(dim1=1, dim2=2)[..., None]
    return scale[:, None, None] * (targets - residuals)[:, : sets.texts.shape[1]]


def halves(sets: SupportSets, scale: Tensor) -> Tensor:
    """Logits (T, E, C): predictions of a ridge regression on the other half of the texts and the names, times a scale.

    The halves have every second text of each class.
    """
    n_texts, rows, targets = sets.texts.shape[1], torch.cat([sets.texts, sets.names], dim=1), _centred(sets)
    kernel = rows @ rows.mT
    number = (sets.targets * sets.targets.cumsum(1)).sum(-1)  # of a text within its class, from 1
    predictions = []
    for half in (0, 1):
        used = torch.cat([number % 2 == half, torch.ones_like(sets.has_name, dtype=torch.bool)], dim=1).to(kernel)
        part = used[:, :, None] * kernel * used[:, None]
        weights = torch.linalg.solve(_penalized(part), used[..., None] * targets)
        predictions.append((kernel @ weights)[:, :n_texts])
    return scale[:, None, None] * torch.where((number % 2 == 0)[..., None], predictions[1], predictions[0])


def _penalized(kernel: Tensor) -> Tensor:
    """The kernel (T, n, n) of a ridge regression with the penalty on its diagonal."""
    return kernel + RIDGE_PENALTY * torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)


def _centred(sets: SupportSets) -> Tensor:
    """Targets (T, E + C, C) of texts and names, minus their value for a text that says nothing; zero for padding."""
    own_names = torch.diag_embed(sets.has_name)
    targets = torch.cat([sets.targets, own_names], dim=1)
    classes = sets.class_mask.to(targets)[:, None]
    return targets - targets.sum(-1, keepdim=True) * classes / classes.sum(-1, keepdim=True)


@dataclass(frozen=True)
class LeaveOneOutLoss:
    """A loss: how logits are computed, and the factor between similarity and logit that learning starts from."""

    logits: Callable[[SupportSets, Tensor], Tensor]
    scale: float


LOSSES: dict[InnerLossName, LeaveOneOutLoss] = {
    "class_means": LeaveOneOutLoss(class_means, 15.0),
    "ridge": LeaveOneOutLoss(ridge, 8.0),
    "halves": LeaveOneOutLoss(halves, 8.0),
}
"""A new leave-one-out loss is one more entry here, and its name in `InnerLossName`."""
