"""Unlabelled texts as examples of a regression: each counts for every class as much as it probably belongs to it.

A round predicts the unlabelled texts, adds what their neighbours say, moves the proportions of the classes towards
equal ones, sharpens the probabilities, and fits the regression again to all examples. All of this but the neighbours is
differentiable.

References:
    Lee (2013), "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks".
    Ren et al. (2018), "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR, sec. 3.1.
    Cuturi (2013), "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS, sec. 4 (balancing).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metawarp.parameters import InitParameters, power_law
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.neighbours import label_propagation
from metawarp.verbalizers.regression_problem import Examples

ROUNDS = 4
"""Number of times that the unlabelled texts are predicted and fitted."""

TOLERANCE = 1e-3
"""Norm of the gradient at which a round ends, as a fraction of that at zero: a pool has thousands of texts."""

BALANCING_STEPS = 5

TEXTS_PER_CLASS = 10
"""Number of unlabelled texts per class at which they count half of what very many of them count."""

# Found best, or not harmful, on HuffPost's training classes, TREC, emotions and the bundled corpora, with 0 to 10 texts
# per class, also with 30 % distractors and proportions of 10 : 1.
SOFT_LABELS: Mapping[str, float] = {
    "log_unlabelled_count": math.log(2),
    "unlabelled_count_by_shots": 0.3,
    "log_sharpness": 0.0,
    "sharpness_by_shots": 0.0,
    "log_balance": math.log(0.6),
    "balance_by_shots": 0.0,
    "log_neighbour_weight": 0.0,
    "neighbour_weight_by_shots": 0.0,
}
"""Scalars of `InitParameters` that soft labels depend on, with the values that they start from."""

LEAST = 1e-6
"""Smallest probability that the neighbours of a text give to a class."""


@dataclass(frozen=True)
class SoftLabels:
    """The unlabelled texts of T tasks, and how they are labelled.

    Attributes:
        task: (U,) index of each text's task.
        class_mask: (T, C), true where a task has that class.
        count: (T,) number of examples that each text counts as.
        sharpness: (T,) power of the probabilities.
        balance: (T,) how far the proportions of classes are moved to equal ones, from 0 to 1.
        evidence: (U, C) what the neighbours of each text add to its logits.
    """

    task: Tensor
    class_mask: Tensor
    count: Tensor
    sharpness: Tensor
    balance: Tensor
    evidence: Tensor

    @classmethod
    def of(cls, init: InitParameters, tasks: TaskBatch, examples: Examples, unlabelled: Tensor) -> Self:
        """The soft labels of tasks with these labelled examples, and features (U, d) of their unlabelled texts."""
        task, mask = tasks.unlabelled.task, tasks.class_mask
        shots, ways = (number.to(init.log_scale) for number in tasks.size)
        total = power_law(shots, ways, init.log_unlabelled_count, init.unlabelled_count_by_shots, 0.0) * ways
        number = torch.bincount(task, minlength=len(mask)).clamp(min=1)
        sharpness = power_law(shots, ways, init.log_sharpness, init.sharpness_by_shots, 0.0)
        balance = power_law(shots, ways, init.log_balance, init.balance_by_shots, 0.0).clamp(max=1)
        near = label_propagation(examples, unlabelled.detach(), task).clamp(min=LEAST).log()
        weight = power_law(shots, ways, init.log_neighbour_weight, init.neighbour_weight_by_shots, 0.0)
        # A few texts say little about their classes: 20 of them, counted as fully as thousands, cost up to 4 points.
        # None of them counts more than a labelled one.
        count = (total / (number + TEXTS_PER_CLASS * ways)).clamp(max=1)
        return cls(task, mask, count, sharpness, balance, weight[task, None] * near)

    def trusting_neighbours(self, logits: Tensor) -> Self:
        """The same labels, in which neighbours count as much as they agree with the logits (U, C) of the texts: by
        Cohen's kappa in each task, from 0 for an agreement by chance to 1.

        Where texts of a class are not neighbours, as with kinds of questions, the neighbours of a text mislead.
        """
        with torch.no_grad():
            agree = (logits.argmax(1) == self.evidence.argmax(1)).to(self.evidence)
            number, ways = torch.bincount(self.task, minlength=len(self.class_mask)), self.class_mask.sum(1)
            share = agree.new_zeros(len(ways)).index_add(0, self.task, agree) / number.clamp(min=1)
            kappa = ((share - 1 / ways) / (1 - 1 / ways)).clamp(min=0)
        return replace(self, evidence=kappa[self.task, None] * self.evidence)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to what the labels depend on."""
        numbers = self.count, self.sharpness, self.balance, self.evidence
        return any(values.requires_grad for values in numbers)

    def unknown(self, features: Tensor) -> Examples:
        """The texts with features (U, d) as examples that do not have a label yet."""
        return Examples(features, self.task, torch.zeros_like(self.evidence), self.count[self.task])

    def targets(self, logits: Tensor) -> Tensor:
        """Probabilities (U, C) that the texts are fitted with, from those that their logits (U, C) say."""
        absent = ~self.class_mask[self.task]
        probabilities = (logits + self.evidence).masked_fill(absent, float("-inf")).softmax(-1)
        sharpened = self._balanced(probabilities).clamp(min=torch.finfo(logits.dtype).tiny).log()
        sharpened = sharpened * self.sharpness[self.task, None]
        return sharpened.masked_fill(absent, float("-inf")).softmax(-1)

    def _balanced(self, probabilities: Tensor) -> Tensor:
        """Probabilities (U, C) whose sum over the texts of a task is nearer to the same number for all its classes."""
        shape, ways = self.class_mask.shape, self.class_mask.sum(1)
        expected = torch.bincount(self.task, minlength=shape[0]) / ways
        for _ in range(BALANCING_STEPS):
            found = probabilities.new_zeros(shape).index_add(0, self.task, probabilities).clamp(min=LEAST)
            factors = (expected[:, None] / found).pow(self.balance[:, None]).masked_fill(~self.class_mask, 0.0)
            probabilities = probabilities * factors[self.task]
            probabilities = probabilities / probabilities.sum(1, keepdim=True).clamp(min=LEAST)
        return probabilities
