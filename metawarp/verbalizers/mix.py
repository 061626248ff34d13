"""Class embeddings mixed from names and support means, with a weight of the name that falls with the shots."""

from typing import final

from torch import Tensor
from torch.nn.functional import normalize

from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.support import class_means, unit_means
from metawarp.verbalizers.verbalizer import LOG_10, Verbalizer, by_class, cosine_logits

NAME_WEIGHT = -1.2
"""Start of m in w = 1 / (1 + K·e^m): w is 0.77 at one shot and 0.40 at five, the best untrained weights on HuffPost."""


@final
class Mix(Verbalizer):
    """w·name + (1 - w)·mean, with unit length; means alone for classes without names."""

    scalars = {"log_scale": LOG_10, "name_weight": NAME_WEIGHT}

    def class_embeddings(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        if names is None:
            return class_means(tasks, support)
        embeddings = by_class(normalize(names, dim=-1), tasks.names, tasks.shots.shape)
        if support is None:
            return embeddings
        assert init.name_weight is not None
        weight = weight_of_name(tasks.shots.to(names.dtype), init.name_weight)[..., None]
        return normalize(weight * embeddings + (1 - weight) * unit_means(tasks, support), dim=-1)

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return cosine_logits(features, class_embeddings, scale)


def weight_of_name(shots: Tensor, m: Tensor) -> Tensor:
    """Weight w = 1 / (1 + K·e^m) of a class name beside the mean of K texts, of the shape of `shots`."""
    return 1 / (1 + shots * m.exp())
