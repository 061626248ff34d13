"""Embeddings of bare texts, without template and prompt: the mean of their hidden states after some layers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from metawarp.backbones.backbone import Backbone
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache


class TextEmbeddings:
    """Mean-pooled hidden states after each of several layers, numbered from 1; those of the last layer are sentence
    embeddings. The backbone is frozen, so equal token ids always have equal embeddings, which the cache keeps."""

    def __init__(self, backbone: Backbone, layers: Sequence[int], cache: FeatureCache | None) -> None:
        self.backbone, self.layers = backbone, tuple(layers)
        self._scope = CacheScope(cache, "embeddings", backbone.fingerprint, backbone.dtype, self.layers)

    def __call__(self, batch: EncodedBatch) -> Tensor:
        """Embeddings (B, L, h) of B texts, one for each of the L layers, on the backbone's device."""
        batch = replace(batch, perturbation=None).to(torch.device("cpu"))  # the cache needs the ids as bytes
        shape = (len(self.layers), self.backbone.hidden_size)
        rows = self._scope.rows(batch.keep(batch.text_mask), self._computed, shape, self.backbone.dtype)
        return rows.to(self.backbone.device)

    def in_one_pass(self, batch: EncodedBatch) -> Tensor:
        """The same embeddings, computed in one pass by operations that torch's exporter can trace."""
        return self.of_bare_texts(replace(batch, perturbation=None).packed(batch.text_mask)[0])

    @torch.no_grad()
    def _computed(self, batch: EncodedBatch) -> Tensor:
        return batch.in_passes(self.backbone.max_tokens, lambda part, rows: self.of_bare_texts(part).cpu())

    def of_bare_texts(self, batch: EncodedBatch) -> Tensor:
        """Embeddings (B, L, h) of a batch that has no template, in one pass."""
        batch = batch.to(self.backbone.device)
        hidden, means = self.backbone.embed_tokens(batch.input_ids), {}
        for done, layer in pairwise([0, *sorted(set(self.layers))]):
            hidden = self.backbone.run_layers(hidden, batch.attention_mask, done, layer)
            means[layer] = mean_over(hidden, batch.attention_mask)
        return torch.stack([means[layer] for layer in self.layers], dim=1)


def mean_over(hidden: Tensor, places: Tensor) -> Tensor:
    """Mean (B, h) of hidden states (B, n, h) over the places (B, n) that are true."""
    weights = places.to(hidden.dtype)
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
