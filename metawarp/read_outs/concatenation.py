"""Features side by side with learned weights: of the bare text, and of the text under the prompt."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.adapters.adapter import Adapter, n_values
from metawarp.config import Group, WarpConfig
from metawarp.parameters import TaskParameters
from metawarp.read_outs.debiased_mask import debiased_mask
from metawarp.read_outs.layers import is_of_last_layer, layer_of
from metawarp.read_outs.prompted_features import PromptedFeatures
from metawarp.read_outs.read_out import ReadOut, mean_over_windows, over_windows
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.text_embeddings import TextEmbeddings
from metawarp.texts.text_encoder import TextEncoder

Features = dict[str, Tensor]
"""Features of B texts by name, such as "mask" (B, w), where w is `Backbone.feature_size`."""

DerivedFeature = Callable[[Features, Callable[[], Features], Tensor], Tensor]
"""A feature (B, w), computed from three arguments: the prompted features of B texts; a function that returns
those of the template without a text under the adapters of T tasks, (T, w); and the index (B,) of each text's task."""

DERIVED: dict[str, tuple[str, DerivedFeature]] = {"debiased_mask": ("mask", debiased_mask)}
"""Derived features by name: the feature that each needs, and how it is computed."""


@final
class Concatenation(ReadOut):
    """P features, each of unit length and scaled by the square root of its weight, one after the other.

    The inner product of two read-outs is then the weighted mean of the cosines of their features. `prompted` reads the
    text under the prompt; `text` reads the bare text, and is None if no feature needs it.
    """

    def __init__(self, config: WarpConfig, encoder: TextEncoder, adapter: Adapter, cache: FeatureCache | None) -> None:
        backbone = adapter.context.backbone
        layers = [layer_of(name, backbone) for name in config.text_features]
        self._config, self._encoder, self._adapter = config, encoder, adapter
        needed = [DERIVED[name][0] if name in DERIVED else name for name in config.features]
        self.prompted = PromptedFeatures(adapter, needed, cache)
        self.text = TextEmbeddings(backbone, layers, cache) if layers else None
        sizes = dict(zip(config.text_features, self.text.sizes, strict=True)) if self.text else {}
        sizes |= self.prompted.sizes
        self._widths = torch.tensor([sizes[name] for name in needed])
        self._is_last = torch.tensor([is_of_last_layer(name) for name in config.features])

    @property
    def depends_on(self) -> tuple[Group, ...]:
        return ("adapter",) if self.prompted.sizes and n_values(self._adapter) else ()

    @property
    def feature_size(self) -> int:
        return int(self._widths.sum())

    @property
    def in_last_layer(self) -> Tensor:
        is_last = self._is_last if self._is_last.any() else ~self._is_last
        return is_last.repeat_interleave(self._widths).to(self._adapter.context.backbone.device)

    def __call__(self, parameters: TaskParameters, batch: EncodedBatch, task: Tensor) -> Tensor:
        windows, task, text = over_windows(self._encoder, batch, task)
        values = parameters.adapter
        embeddings = () if self.text is None else tuple(one.to(values.dtype) for one in self.text(windows))
        features = self.prompted(values, windows, task)
        features = self.combined(features, lambda: self.prompted.of_empty_text(values), embeddings, task)
        features = {name: mean_over_windows(feature, text, len(batch)) for name, feature in features.items()}
        return self.concatenated(features, parameters.read_out_weights)

    def combined(
        self, prompted: Features, of_empty_text: Callable[[], Features], embeddings: Sequence[Tensor], task: Tensor
    ) -> Features:
        """All P features, from the prompted ones and the L embeddings (B, …) of bare texts."""
        derived = [name for name in self._config.features if name in DERIVED]
        features = prompted | {name: DERIVED[name][1](prompted, of_empty_text, task) for name in derived}
        return features | dict(zip(self._config.text_features, embeddings, strict=True))

    def concatenated(self, features: Features, weights: Tensor | None) -> Tensor:
        """The read-out (B, d) of its features, with weights (P,)."""
        pieces = [normalize(features[name], dim=-1) for name in self._config.features]
        if weights is not None:
            pieces = [weight.sqrt() * piece for weight, piece in zip(weights, pieces, strict=True)]
        return torch.cat(pieces, dim=-1)
