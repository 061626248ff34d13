"""Sentence embeddings of the texts alone, no template and no prompt around them, each text's computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metawarp.backbone import Backbone
from metawarp.encoded import EncodedBatch
from metawarp.held import Held

LIMIT = 2**29
"""Bytes of embeddings that are held in memory."""


class TextFeatures:
    """The mean over a text's hidden states after some of the layers, as sentence encoders take it after the last.

    Args:
        backbone: frozen, so that the same tokens always give the same.
        layers: after how many layers, each from 1 to all.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int]) -> None:
        self.backbone, self.layers = backbone, tuple(layers)
        self._held = Held(LIMIT)

    def __call__(self, batch: EncodedBatch) -> Tensor:
        """Embeddings (B, L, h), L the number of layers asked for."""
        bare = batch.only(batch.text_mask)
        keys = bare.keys()
        found = {key: vectors for key in keys if (vectors := self._held.get(key)) is not None}
        new = {key: row for row, key in enumerate(keys) if key not in found}
        if new:
            computed = dict(zip(new, self._computed(bare.select(torch.tensor(list(new.values())))), strict=True))
            found.update(computed)
            self._held.put(computed)
        return torch.stack([found[key] for key in keys]).to(self.backbone.device)

    @torch.no_grad()
    def _computed(self, batch: EncodedBatch) -> list[Tensor]:
        passes = batch.passes(self.backbone.max_tokens)
        vectors = torch.cat([self._means(batch.select(rows).to(self.backbone.device)).cpu() for rows in passes])
        # Each a tensor of its own: a slice would keep all of them.
        return [vector.clone() for vector in vectors[torch.argsort(torch.cat(passes))]]

    def _means(self, batch: EncodedBatch) -> Tensor:
        hidden, done, means = self.backbone.word_embeddings[batch.input_ids], 0, {}
        for layer in sorted(set(self.layers)):
            hidden = self.backbone.through(hidden, batch.attention_mask, done, layer)
            means[layer] = mean_over(hidden, batch.attention_mask)
            done = layer
        return torch.stack([means[layer] for layer in self.layers], dim=1)


def mean_over(hidden: Tensor, places: Tensor) -> Tensor:
    """Mean (B, h) of hidden states (B, n, h) over the places (B, n) that are true."""
    weights = places.to(hidden.dtype)
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
