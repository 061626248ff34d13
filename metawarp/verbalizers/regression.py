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

from episodes import InputError
from metawarp.parameters import InitParameters, power_law
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.logistic_regression import fit_logistic_regression, with_bias
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
        "log_scale": math.log(2),
    }
    names_in_last_layer = True
    has_bias = True

    def class_embeddings(
        self, init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor | None
    ) -> Tensor:
        shots = tasks.shots.to(init.log_scale)
        mean_shots, ways = (number.to(shots) for number in tasks.size)
        strength = power_law(mean_shots, ways, init.log_strength, init.strength_by_shots, init.strength_by_ways)
        examples = []
        if support is not None:
            # Balanced: how many texts a user has of a class says nothing about how often it will be predicted.
            texts = tasks.support
            examples.append((support, texts.task, texts.label, mean_shots[texts.task] / shots[texts.task, texts.label]))
        if names is not None:
            count = power_law(mean_shots, ways, init.log_name_count, init.name_count_by_shots, init.name_count_by_ways)
            examples.append((names, tasks.names.task, tasks.names.label, count[tasks.names.task]))
        if not examples:
            raise InputError("A regression needs class names or support texts; give texts or class_names.")
        features, task, label, count = (torch.cat(column) for column in zip(*examples, strict=True))
        return fit_logistic_regression(features, task, label, count, tasks.class_mask, strength)

    def weighing_names(self, init: InitParameters, factors: Tensor | float) -> InitParameters:
        assert init.log_name_count is not None
        factors = torch.as_tensor(factors).to(init.log_name_count)
        return replace(init, log_name_count=init.log_name_count + factors.log())

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return scale * dot_products(with_bias(features), class_embeddings)
