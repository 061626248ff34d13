"""Class embeddings from a logistic regression on support texts and class names, differentiable in both.

A name counts as a learned number of texts. This number, and the strength of the fit, depend on how many texts and
classes a task has: with many texts, names count little, and the fit is that of a plain regression. A name is compared
with texts in the features of the last layer only, where sentence encoders are trained to bring a text and its
description together.

Texts have much in common that names lack, above all in the lower layers. Where some classes have far fewer texts than
others, the regression would take it for a property of the classes with many texts, and predict these too often. There,
names are moved to the mean of the texts, so that names and texts differ in nothing but their classes.

References:
    Liang et al. (2022), "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
    Learning", NeurIPS: two kinds of inputs differ by a constant vector, the difference of their means.
"""

import math
from dataclasses import replace
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from episodes import InputError
from metawarp.parameters import InitParameters, power_law
from metawarp.texts.task_batch import TaskBatch, mean_per_task
from metawarp.verbalizers.logistic_regression import RepeatedFit, fit_logistic_regression
from metawarp.verbalizers.regression_problem import Examples, with_bias
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
    # With exponents of zero, numbers are constants, as they were. Without unlabelled texts, soft labels have no effect.
    scalars_of_older_inits = {**{name: 0.0 for name in scalars if "_by_" in name}, **SOFT_LABELS}
    names_in_last_layer = True
    uses_unlabelled = True
    has_bias = True

    def class_embeddings(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        examples, strength = self._examples(init, tasks, names, support), self._strength(init, tasks)
        class_embeddings = fit_logistic_regression(examples, tasks.class_mask, strength)
        if unlabelled is None:
            return class_embeddings
        labels = SoftLabels.of(init, tasks, examples, unlabelled)
        both = Examples.joined((examples, labels.unknown(unlabelled)))
        differentiable = class_embeddings.requires_grad or labels.requires_grad
        fit = RepeatedFit.of(both, tasks.class_mask, strength, differentiable=differentiable)
        for number in range(ROUNDS):
            logits = init.log_scale.exp() * fit.logits(class_embeddings)[len(examples.task) :]
            if number == 0:
                labels = labels.trusting_neighbours(logits)
            targets = torch.cat([examples.targets, labels.targets(logits)])
            class_embeddings = fit.minimum(targets, class_embeddings, TOLERANCE)
        return class_embeddings

    def _strength(self, init: InitParameters, tasks: TaskBatch) -> Tensor:
        """Strength of the fit (T,)."""
        shots, ways = (number.to(init.log_scale) for number in tasks.size)
        return power_law(shots, ways, init.log_strength, init.strength_by_shots, init.strength_by_ways)

    def _examples(
        self, init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor | None
    ) -> Examples:
        """The labelled texts and class names as examples."""
        shots = tasks.shots.to(init.log_scale)
        mean_shots, ways = (number.to(shots) for number in tasks.size)
        examples = []
        if support is not None:
            # Balanced: how many texts a user has of a class says nothing about how often it will be predicted. The name
            # of a class without texts counts for these, too.
            texts = tasks.support
            count = mean_shots[texts.task] / shots[texts.task, texts.label]
            examples.append(Examples(support, texts.task, _one_hot(texts.label, support, tasks), count))
        if names is not None:
            count = power_law(mean_shots, ways, init.log_name_count, init.name_count_by_shots, init.name_count_by_ways)
            texts, names = tasks.names, _beside_texts(names, support, tasks)
            count = count[texts.task] + (mean_shots[:, None] * (shots == 0))[texts.task, texts.label]
            examples.append(Examples(names, texts.task, _one_hot(texts.label, names, tasks), count))
        if not examples:
            raise InputError("A regression needs class names or support texts; give texts or class_names.")
        return Examples.joined(examples)

    def weighing_names(self, init: InitParameters, factors: Tensor | float) -> InitParameters:
        assert init.log_name_count is not None
        factors = torch.as_tensor(factors).to(init.log_name_count)
        return replace(init, log_name_count=init.log_name_count + factors.log())

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return scale * dot_products(with_bias(features), class_embeddings)


def _beside_texts(names: Tensor, support: Tensor | None, tasks: TaskBatch) -> Tensor:
    """The features (N, d) of class names. In a task with a class that has less than half as many texts as another, they
    are moved so that their mean is that of the support texts (B, d).

    With similar numbers, nothing is moved: what texts have in common then speaks for all classes alike.
    """
    if support is None:
        return names
    fewer = (2 * tasks.shots < tasks.shots.amax(1, keepdim=True)) & tasks.class_mask
    apart = mean_per_task(support, tasks.support.task, len(tasks)) - mean_per_task(names, tasks.names.task, len(tasks))
    return names + (apart * fewer.any(1, keepdim=True))[tasks.names.task]


def _one_hot(label: Tensor, features: Tensor, tasks: TaskBatch) -> Tensor:
    return one_hot(label, tasks.shots.shape[1]).to(features)
