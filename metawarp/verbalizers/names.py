"""Class embeddings from the names of the classes alone."""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.support import class_means, unit_means
from metawarp.verbalizers.verbalizer import Verbalizer, by_class, cosine_logits


@final
class Names(Verbalizer):
    """The feature of each name, with unit length; means of the support features for classes without names."""

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
        return torch.where(tasks.has_name[..., None], embeddings, unit_means(tasks, support))

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return cosine_logits(features, class_embeddings, scale)
