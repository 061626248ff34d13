"""Sentence embeddings of the texts alone, no template and no prompt around them, each text's computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metawarp.backbones.backbone import Backbone
from metawarp.texts.cache import TensorCache
from metawarp.texts.encoded import EncodedBatch

LIMIT = 2**28
"""Bytes of embeddings that are cached in memory."""


class TextFeatures:
    """The mean over a text's hidden states after some of the layers, as sentence encoders take it after the last.

    Args:
        backbone: frozen, so that the same tokens always give the same.
        layers: after how many layers, each from 1 to all.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int]) -> None:
        self.backbone, self.layers = backbone, tuple(layers)
        self._cache = TensorCache(LIMIT)

    def __call__(self, batch: EncodedBatch) -> Tensor:
        """Embeddings (B, L, h) of B texts anywhere, on the backbone's device; L is the number of layers asked for."""
        batch = replace(batch, shift=None).to(torch.device("cpu"))  # where keys are made of bytes
        return self._cache.of(batch.only(batch.text_mask), self._computed).to(self.backbone.device)

    def uncached(self, batch: EncodedBatch) -> Tensor:
        """The same, (B, L, h), computed in one pass, by operations that a graph can have."""
        return self.means(replace(batch, shift=None).packed(batch.text_mask)[0])

    @torch.no_grad()
    def _computed(self, batch: EncodedBatch) -> Tensor:
        return batch.in_passes(self.backbone.max_tokens, lambda some, rows: self.means(some).cpu())

    def means(self, batch: EncodedBatch) -> Tensor:
        """Embeddings (B, L, h) of texts without template, in one pass."""
        batch = batch.to(self.backbone.device)
        hidden, done, means = self.backbone.embedded(batch.input_ids), 0, {}
        for layer in sorted(set(self.layers)):
            hidden = self.backbone.through(hidden, batch.attention_mask, done, layer)
            means[layer] = mean_over(hidden, batch.attention_mask)
            done = layer
        return torch.stack([means[layer] for layer in self.layers], dim=1)


def mean_over(hidden: Tensor, places: Tensor) -> Tensor:
    """Mean (B, h) of hidden states (B, n, h) over the places (B, n) that are true."""
    weights = places.to(hidden.dtype)
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
