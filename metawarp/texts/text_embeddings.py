"""Embeddings of bare texts, without template and soft tokens: their pooled hidden states after some layers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from metawarp.backbones.backbone import Backbone
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache


class TextEmbeddings:
    """Embeddings after each of L layers, numbered from 1: the sentence embedding after the last one, and pooled hidden
    states after the others. The backbone is frozen, so equal token ids always have equal embeddings, which the cache
    keeps. `sizes` holds the width of each."""

    def __init__(self, backbone: Backbone, layers: Sequence[int], cache: FeatureCache | None) -> None:
        self.backbone, self.layers = backbone, tuple(layers)
        self.sizes = [
            backbone.sentence_size if layer == backbone.n_layers else backbone.pooled_size for layer in self.layers
        ]
        self._scope = CacheScope(cache, "embeddings", backbone.fingerprint, backbone.dtype, self.layers)

    def __call__(self, batch: EncodedBatch) -> tuple[Tensor, ...]:
        """The embeddings of B texts after each layer, (B, size) each, on the backbone's device."""
        batch = replace(batch, perturbation=None).to(torch.device("cpu"))  # the cache needs the ids as bytes
        rows = self._scope.rows(batch.keep(batch.text_mask), self._computed, (sum(self.sizes),), self.backbone.dtype)
        return rows.to(self.backbone.device).split(self.sizes, dim=-1)

    def in_one_pass(self, batch: EncodedBatch) -> tuple[Tensor, ...]:
        """The same embeddings, computed in one pass by operations that torch's exporter can trace."""
        return self.of_bare_texts(replace(batch, perturbation=None).packed(batch.text_mask)[0])

    @torch.no_grad()
    def _computed(self, batch: EncodedBatch) -> Tensor:
        def compute(part: EncodedBatch, rows: Tensor) -> Tensor:
            return torch.cat(self.of_bare_texts(part), dim=-1).cpu()

        return batch.in_passes(self.backbone.max_tokens, compute)

    def of_bare_texts(self, batch: EncodedBatch) -> tuple[Tensor, ...]:
        """The embeddings of a batch that has no template, in one pass."""
        batch = batch.to(self.backbone.device)
        backbone, embeddings = self.backbone, dict[int, Tensor]()
        hidden = backbone.embed_tokens(batch.input_ids)
        for done, layer in pairwise([0, *sorted(set(self.layers))]):
            hidden = backbone.run_layers(hidden, batch.attention_mask, done, layer)
            pool = backbone.sentence_embedding if layer == backbone.n_layers else backbone.pooled
            embeddings[layer] = pool(hidden, batch.attention_mask)
        return tuple(embeddings[layer] for layer in self.layers)
