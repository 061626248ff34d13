"""Features of texts under prompts. Under a prompt that is not being learned they are computed once per text."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from episodes import InputError
from metawarp.adapters.adapter import Adapter, split, visible
from metawarp.backbones.family import at_positions
from metawarp.backbones.pooling import Pooling
from metawarp.read_outs.layers import layer_of
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache, to_bytes


class PromptedFeatures:
    """Those of the features "pooled", "pooled-1", …, "mean" and "mask" of a read-out that `names` contains.

    Features under an adapter that is not being learned are kept in the cache. `sizes` holds the width of each feature,
    in the order in which they are computed. InputError if a feature is read below the adapter's first layer.
    """

    def __init__(self, adapter: Adapter, names: Iterable[str], cache: FeatureCache | None) -> None:
        self._adapter, self._backbone, self._cache = adapter, adapter.context.backbone, cache
        names, backbone, lowest = set(names), self._backbone, adapter.context.layer
        self._layers = {name: layer_of(name, backbone) for name in sorted(names) if name.startswith("pooled-")}
        if below := [name for name, layer in self._layers.items() if layer <= lowest]:
            problem = (
                f"{below[0]!r} in read_out reads layer {self._layers[below[0]]}, which the adapter does not change"
            )
            advice = f"use {below[0].replace('pooled', 'text')!r} in read_out, or a smaller adapter_layer"
            raise InputError(f"{problem}, because adapter_layer={lowest}; {advice}.")
        sizes = {name: backbone.pooled_size for name in self._layers}
        sizes |= {"pooled": backbone.sentence_size, "mean": backbone.hidden_size, "mask": backbone.feature_size}
        self.sizes = {name: size for name, size in sizes.items() if name in names}

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
        if set(self.sizes) == {"mask"}:
            return {"mask": self._at_mask(values, batch, task)}
        features, backbone, places = dict[str, Tensor](), self._backbone, batch.text_mask

        def observe(layer: int, hidden: Tensor) -> None:
            features.update({name: backbone.pooled(hidden, places) for name, of in self._layers.items() if of == layer})

        hidden = self._adapter.hidden_states(split(self._adapter, values), batch, task, observe=observe)
        if "pooled" in self.sizes:
            features["pooled"] = backbone.sentence_embedding(hidden, places)
        if "mean" in self.sizes:
            features["mean"] = Pooling()(hidden, places)
        if "mask" in self.sizes:
            if backbone.last_layer is None:
                features["mask"] = backbone.mask_features(at_positions(hidden, batch.mask_position))
            else:
                features["mask"] = self._at_mask(values, batch, task)
        return features

    def _at_mask(self, values: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
        """The feature "mask", by way of the layers that the head needs."""
        hidden = self._adapter.hidden_states(split(self._adapter, values), batch, task, head_at=batch.mask_position)
        return self._backbone.mask_features(hidden)

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
