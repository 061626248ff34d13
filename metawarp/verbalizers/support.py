"""Class embeddings from support texts alone: the mean feature of each class.

References:
    Snell, Swersky, Zemel (2017), "Prototypical Networks for Few-shot Learning", NeurIPS, eq. 1.
    Jiang, Zhang, Kwok (2023), "Effective Structured Prompting by Meta-Learning and Representative Verbalizer", ICML,
    eq. 6 (RepVerb).
"""

from typing import final

from torch import Tensor
from torch.nn.functional import normalize

from episodes import InputError
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.verbalizer import Verbalizer, by_class, cosine_logits


@final
class SupportMeans(Verbalizer):
    """The mean of the support features of each class, with unit length."""

    uses_names = False

    def class_embeddings(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        return class_means(tasks, support)

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return cosine_logits(features, class_embeddings, scale)


def class_means(tasks: TaskBatch, support: Tensor | None) -> Tensor:
    """Mean support feature (T, C, d) of each class, with unit length; InputError if a class has no support text."""
    if support is None or bool(((tasks.shots == 0) & tasks.class_mask).any()):
        advice = "add texts, or give class_names to a verbalizer that uses them, such as 'regression'"
        raise InputError(f"Class embeddings from support texts need at least one text per class; {advice}.")
    return unit_means(tasks, support)


def unit_means(tasks: TaskBatch, support: Tensor) -> Tensor:
    """The same means; zero for a class without support texts."""
    sums = by_class(support, tasks.support, tasks.shots.shape)
    return normalize(sums / tasks.shots.clamp(min=1)[..., None], dim=-1)
