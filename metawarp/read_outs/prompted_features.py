"""Features of texts under prompts. Under a prompt that is not being learned they are computed once per text."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from metawarp.adapters.adapter import Adapter, split, visible
from metawarp.backbones.family import at_positions
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache, to_bytes
from metawarp.texts.text_embeddings import mean_over


class PromptedFeatures:
    """The features "mean" and "mask" of a read-out, or the one of them that `names` contains.

    Features under an adapter that is not being learned are kept in the cache. `sizes` holds the width of each feature,
    in the order in which they are computed.
    """

    def __init__(self, adapter: Adapter, names: Iterable[str], cache: FeatureCache | None) -> None:
        self._adapter, self._backbone, self._cache = adapter, adapter.context.backbone, cache
        sizes = {"mean": self._backbone.hidden_size, "mask": self._backbone.feature_size}
        self.sizes = {name: sizes[name] for name in sizes if name in set(names)}

    def __call__(self, values: Tensor, batch: EncodedBatch, task: Tensor) -> dict[str, Tensor]:
        """Features by name, (B, width in `sizes`), of B texts under the adapter values (T, …) of their tasks."""
        if not self.sizes:
            return {}
        if len(values) > 1 or values.requires_grad or batch.perturbation is not None:
            features = self._in_passes(values, batch, task)
        else:
            shape = (sum(self.sizes.values()),)
            features = self._scope(values).rows(batch, lambda new: self._frozen(values, new), shape, values.dtype)
        pieces = features.to(values.device).split(list(self.sizes.values()), dim=-1)
        return dict(zip(self.sizes, pieces, strict=True))

    def of_empty_text(self, values: Tensor) -> dict[str, Tensor]:
        """Features (T, width in `sizes`) of the template without a text, under the adapter of each of T tasks."""
        tasks = torch.arange(len(values), device=values.device)
        return self(values, self._adapter.context.empty.select(torch.zeros_like(tasks, device="cpu")), tasks)

    def in_one_pass(self, values: Tensor, batch: EncodedBatch, task: Tensor) -> dict[str, Tensor]:
        """The same features of visible texts, computed in one pass."""
        parts, features = split(self._adapter, values), dict[str, Tensor]()
        hidden = self._adapter.hidden_states(parts, batch, task) if "mean" in self.sizes else None
        if hidden is not None:
            features["mean"] = mean_over(hidden, batch.text_mask)
        if "mask" in self.sizes:
            if hidden is None or self._backbone.last_layer is not None:
                at_mask = self._adapter.hidden_states(parts, batch, task, batch.mask_position)
            else:
                at_mask = at_positions(hidden, batch.mask_position)
            features["mask"] = self._backbone.mask_features(at_mask)
        return features

    def _in_passes(self, values: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
        def in_pass(part: EncodedBatch, rows: Tensor) -> Tensor:
            seen = visible(self._adapter, part).to(self._backbone.device)
            features = self.in_one_pass(values, seen, task[rows])
            return torch.cat([features[name].to(values.dtype) for name in self.sizes], dim=-1)

        return batch.in_passes(self._backbone.max_tokens, in_pass)

    @torch.no_grad()
    def _frozen(self, values: Tensor, batch: EncodedBatch) -> Tensor:
        return self._in_passes(values, batch, torch.zeros(len(batch), dtype=torch.long, device=values.device)).cpu()

    def _scope(self, values: Tensor) -> CacheScope:
        """The part of the cache for these adapter values."""
        if self._cache is None:
            return CacheScope(None)
        context, backbone = self._adapter.context, self._backbone
        digest = hashlib.sha256(b"".join(to_bytes(values.cpu()))).hexdigest()
        model = (backbone.fingerprint, backbone.dtype, type(self._adapter), context.layer, context.size)
        template = (context.empty.keys(), context.empty.prompt_index.tolist())
        return CacheScope(self._cache, "prompted", model, template, list(self.sizes), values.dtype, digest)
