"""Class embeddings from a logistic regression on support texts and class names, differentiable in both.

A name counts as a learned number of texts. It is compared with texts in the features of the last layer only, where
sentence encoders are trained to bring a text and its description together.
"""

import math
from typing import final

import torch
from torch import Tensor

from episodes import InputError
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.logistic_regression import fit_logistic_regression, with_bias
from metawarp.verbalizers.verbalizer import Verbalizer


@final
class Regression(Verbalizer):
    """Weights and bias (d + 1) of each class, at the minimum of the regression's loss."""

    # Found best untrained, over four corpora, 1 to 10 shots, 5 to 66 classes; the values around them differ little.
    scalars = {"log_strength": math.log(5), "log_name_count": math.log(6), "log_scale": math.log(2)}
    names_in_last_layer = True
    has_bias = True

    def class_embeddings(
        self, init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor | None
    ) -> Tensor:
        assert init.log_strength is not None and init.log_name_count is not None
        examples = []
        if support is not None:
            # Balanced: how many texts a user has of a class says nothing about how often it will be predicted.
            shots, texts = tasks.shots.to(support.dtype), tasks.support
            mean_shots = shots.sum(1) / tasks.n_way
            examples.append((support, texts.task, texts.label, mean_shots[texts.task] / shots[texts.task, texts.label]))
        if names is not None:
            count = init.log_name_count.exp().expand(len(tasks.names))
            examples.append((names, tasks.names.task, tasks.names.label, count))
        if not examples:
            raise InputError("A regression needs class names or support texts; give texts or class_names.")
        features, task, label, count = (torch.cat(column) for column in zip(*examples, strict=True))
        return fit_logistic_regression(features, task, label, count, tasks.class_mask, init.log_strength.exp())

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return scale * torch.einsum("...d,...cd->...c", with_bias(features), class_embeddings)
