"""Keys and values before those of the tokens, in every layer.

References:
    Li, Liang (2021), "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL, sec. 4.
"""

from dataclasses import dataclass
from typing import Unpack, final

import torch
from torch import Tensor

from episodes.errors import InputError, listing
from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Layer, Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class Prefix(Adapter):
    """Keys and values (L, 2, K, h), one pair per soft token of the template, whose places in the text are left out."""

    has_places = False
    context: AdapterContext

    def __post_init__(self) -> None:
        self.context.require_soft_tokens()
        backbone = self.context.backbone
        if backbone.content_attention(0) is None:
            supported = dict.fromkeys(a.family.name for a in ARCHITECTURES.values() if a.family.has_content_attention)
            problem = f"adapter='prefix' does not support backbones of type {backbone.family.name}"
            raise InputError(f"{problem}; use adapter='deep_prompt', or a backbone of type {listing(supported)}.")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        backbone, layer = self.context.backbone, self.context.layer
        return {"prompt": (backbone.n_layers - layer, 2, self.context.n_soft_tokens, backbone.hidden_size)}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """The keys and values that each layer computes from soft tokens at the input."""
        context = self.context
        pairs = [
            self._attention(layer).keys_values(context.states_at(layer, soft_tokens).to(context.backbone.dtype))
            for layer in range(context.layer, context.backbone.n_layers)
        ]
        return {"prompt": torch.stack(pairs).to(soft_tokens)}

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        backbone, first = self.context.backbone, self.context.layer

        def wrapper(number: int, layer: Layer) -> Layer:
            prefix = parts["prompt"][task, number - first].to(backbone.dtype)
            attention = self._attention(number)
            return lambda hidden: attention(hidden, hidden, batch.attention_mask, prefix)

        entering = self.context.entering(batch, parts["prompt"].dtype)
        return backbone.hidden_states(entering, batch.attention_mask, first, wrapper=wrapper, **reading)

    def _attention(self, layer: int) -> ContentAttention:
        attention = self.context.backbone.content_attention(layer)
        assert attention is not None
        return attention
