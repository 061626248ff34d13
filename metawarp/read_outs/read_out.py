"""What a read-out is: from texts and a task's parameters to features, or to a score of each class."""

from typing import Protocol

import torch
from torch import Tensor

from metawarp.adapters.adapter import Adapter
from metawarp.config import Group, WarpConfig
from metawarp.parameters import TaskParameters
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.text_encoder import TextEncoder


class ReadOut(Protocol):
    """A read-out, bound to a model."""

    def __init__(self, config: WarpConfig, encoder: TextEncoder, adapter: Adapter, cache: FeatureCache | None) -> None:
        """Bind the read-out of a config to a model; InputError if the model does not support it."""
        ...

    @property
    def depends_on(self) -> tuple[Group, ...]:
        """The parameters that it depends on: a text has to be read again when one of them changes."""
        ...

    @property
    def feature_size(self) -> int:
        """Width d of a feature, or of what a class embedding is compared with."""
        ...

    @property
    def in_last_layer(self) -> Tensor:
        """(d,), true for the numbers of a feature that come from the last layer; all if there are no others."""
        ...

    def __call__(self, parameters: TaskParameters, batch: EncodedBatch, task: Tensor) -> Tensor:
        """Features (B, d), or scores (B, C), of B texts under the parameters of T tasks, or of one that all share.

        The index of each text's task is task (B,).
        """
        ...


def over_windows(encoder: TextEncoder, batch: EncodedBatch, task: Tensor) -> tuple[EncodedBatch, Tensor, Tensor]:
    """The windows of B texts (W), the index (W,) of each one's task, and the index (W,) of each one's text."""
    windows, text = encoder.windows(batch)
    return windows, task[text.to(task.device)], text


def mean_over_windows(features: Tensor, text: Tensor, n_texts: int) -> Tensor:
    """Means (B, d) over the windows of each text, from the features of all windows (W, d)."""
    if len(features) == n_texts:
        return features
    text = text.to(features.device)
    total = features.new_zeros(n_texts, features.shape[1]).index_add(0, text, features)
    return total / torch.bincount(text, minlength=n_texts)[:, None]
