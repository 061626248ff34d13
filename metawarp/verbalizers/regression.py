"""Class embeddings from a logistic regression on support texts and class names, differentiable in both.

A name counts as a learned number of texts. This number, and the strength of the fit, depend on how many texts and
classes a task has: with many texts, names count little, and the fit is that of a plain regression. A name is compared
with texts in the features of the last layer only, where sentence encoders are trained to bring a text and its
description together.
"""

import math
from dataclasses import replace
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from episodes import InputError
from metawarp.parameters import InitParameters, power_law
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.logistic_regression import Examples, fit_logistic_regression, with_bias
from metawarp.verbalizers.soft_labels import ROUNDS, SOFT_LABELS, TOLERANCE, SoftLabels
from metawarp.verbalizers.verbalizer import Verbalizer, dot_products


@final
class Regression(Verbalizer):
    """Weights and bias (d + 1) of each class, at the minimum of the regression's loss."""

    # Found best untrained, over five corpora, 1 to 20 shots, 4 to 66 classes; the values around them differ little. The
    # strength is 5 with 5 classes, and grows with the square root of their number.
    scalars = {
        "log_strength": 0.5 * math.log(5),
        "strength_by_shots": 0.0,
        "strength_by_ways": 0.5,
        "log_name_count": math.log(6),
        "name_count_by_shots": 0.0,
        "name_count_by_ways": 0.0,
        **SOFT_LABELS,
        "log_scale": math.log(2),
    }
    names_in_last_layer = True
    uses_unlabelled = True
    has_bias = True

    def class_embeddings(
        self, init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor | None
    ) -> Tensor:
        return fit_logistic_regression(*self._problem(init, tasks, names, support))

    def with_unlabelled(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        class_embeddings: Tensor,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor,
    ) -> Tensor:
        examples, class_mask, strength = self._problem(init, tasks, names, support)
        labels = SoftLabels.of(init, tasks, examples, unlabelled)
        tolerance = None if class_embeddings.requires_grad else TOLERANCE  # gradients are those of exact minima
        for _ in range(ROUNDS):
            logits = self.logits(unlabelled, class_embeddings[tasks.unlabelled.task], init.log_scale.exp())
            both = Examples.joined((examples, labels.examples(logits)))
            class_embeddings = fit_logistic_regression(both, class_mask, strength, class_embeddings, tolerance)
        return class_embeddings

    def _problem(
        self, init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor | None
    ) -> tuple[Examples, Tensor, Tensor]:
        """What the regression is fitted to: examples, mask of the classes, and strength."""
        shots = tasks.shots.to(init.log_scale)
        mean_shots, ways = (number.to(shots) for number in tasks.size)
        strength = power_law(mean_shots, ways, init.log_strength, init.strength_by_shots, init.strength_by_ways)
        examples = []
        if support is not None:
            # Balanced: how many texts a user has of a class says nothing about how often it will be predicted.
            texts = tasks.support
            count = mean_shots[texts.task] / shots[texts.task, texts.label]
            examples.append(Examples(support, texts.task, _one_hot(texts.label, support, tasks), count))
        if names is not None:
            count = power_law(mean_shots, ways, init.log_name_count, init.name_count_by_shots, init.name_count_by_ways)
            texts = tasks.names
            examples.append(Examples(names, texts.task, _one_hot(texts.label, names, tasks), count[texts.task]))
        if not examples:
            raise InputError("A regression needs class names or support texts; give texts or class_names.")
        return Examples.joined(examples), tasks.class_mask, strength

    def weighing_names(self, init: InitParameters, factors: Tensor | float) -> InitParameters:
        assert init.log_name_count is not None
        factors = torch.as_tensor(factors).to(init.log_name_count)
        return replace(init, log_name_count=init.log_name_count + factors.log())

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return scale * dot_products(with_bias(features), class_embeddings)


def _one_hot(label: Tensor, features: Tensor, tasks: TaskBatch) -> Tensor:
    return one_hot(label, tasks.shots.shape[1]).to(features)
