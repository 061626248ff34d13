"""What a verbalizer is: class embeddings from class names and support texts, and logits from features."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch

LOG_10 = 2.302585092994046
"""Start of `log_scale` for cosines."""


class Verbalizer(Protocol):
    """A verbalizer. It holds no numbers: what it learns is in the init."""

    scalars: ClassVar[Mapping[str, float]] = {"log_scale": LOG_10}
    """Scalars of `InitParameters` that it learns, with the values that they start from."""
    scalars_of_older_inits: ClassVar[Mapping[str, float]] = {}
    """Scalars that inits of earlier releases may lack, with the values that leave such inits as they were."""
    uses_names: ClassVar[bool] = True
    """Whether class embeddings depend on the features of class names."""
    names_in_last_layer: ClassVar[bool] = False
    """Whether only the features of the last layer are read of a class name; the others are then zero."""
    uses_support: ClassVar[bool] = True
    """Whether class embeddings depend on the features of support texts."""
    uses_unlabelled: ClassVar[bool] = False
    """Whether class embeddings can depend on the features of unlabelled texts."""
    has_bias: ClassVar[bool] = False
    """Whether class embeddings have one more number than features, a bias."""

    def class_embeddings(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        """Class embeddings (T, C, d), or (T, C, d + 1) with a bias, before any inner step.

        Args:
            init: parameters of the init, with the verbalizer's scalars.
            tasks: T tasks of at most C classes; embeddings beyond the classes of a task have no meaning.
            names: features (N, d) of all class names; None if they are not used or classes have no names.
            support: features (B, d) of the support texts; None if they are not used or there are none.
            unlabelled: features (U, d) of the unlabelled texts; None if they are not used or there are none.

        InputError if names or support texts that it needs are missing.
        """
        ...

    def weighing_names(self, init: InitParameters, factors: Tensor | float) -> InitParameters:
        """The init for tasks in which class names count so many times as much, (T,) or the same for all; the same init
        if the verbalizer does not weigh names."""
        return init

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        """Logits (…, C) of features (…, d) under class embeddings (…, C, d or d + 1) and a scale (…, 1)."""
        ...


def cosine_logits(features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
    """scale · cos(f, v_c) for features of unit length."""
    return scale * dot_products(features, normalize(class_embeddings, dim=-1))


def dot_products(features: Tensor, class_embeddings: Tensor) -> Tensor:
    """Dot products (…, C) of features (…, d) with class embeddings (…, C, d)."""
    return (class_embeddings @ features[..., None])[..., 0]


def by_class(features: Tensor, texts: LabelledTexts, shape: torch.Size) -> Tensor:
    """Sums of the features (B, d) of each task and class, (T, C, d), where `shape` is (T, C)."""
    sums = features.new_zeros(*shape, features.shape[-1])
    return sums.index_put((texts.task, texts.label), features, accumulate=True)
