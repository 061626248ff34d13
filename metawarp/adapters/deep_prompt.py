"""Soft tokens before every layer; the output of a layer at their places is replaced before the next layer.

References:
    Liu, Ji, Fu, Tam, Du, Yang, Tang (2022), "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally
    Across Scales and Tasks", ACL, in the form of hidden states.
"""

from dataclasses import dataclass
from functools import partial
from typing import Unpack, final

import torch
from torch import Tensor

from metawarp.adapters.adapter import Adapter, AdapterContext, Parts, insert_soft_tokens
from metawarp.backbones.family import Layer, Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class DeepPrompt(Adapter):
    """Soft tokens "prompt" (K, w) of the adapter's first layer, and "later" (L - 1, K, h) of the other layers."""

    soft_token_parts = ("prompt", "later")
    context: AdapterContext

    def __post_init__(self) -> None:
        self.context.require_soft_tokens()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        context, n_soft_tokens = self.context, self.context.n_soft_tokens
        later = (context.backbone.n_layers - 1 - context.layer, n_soft_tokens, context.backbone.hidden_size)
        return {"prompt": (n_soft_tokens, context.width), "later": later}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """Each layer starts from what the layers below make of the first soft tokens, like a prompt at the input."""
        context = self.context
        later = [context.states_at(i, soft_tokens) for i in range(context.layer + 1, context.backbone.n_layers)]
        stacked = torch.stack(later) if later else soft_tokens.new_zeros(self.shapes["later"])
        return {"prompt": context.soft_tokens_at(context.layer, soft_tokens), "later": stacked}

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        first = self.context.layer

        def wrapper(number: int, layer: Layer) -> Layer:
            if number == first:
                return layer
            return partial(with_new_tokens, parts["later"][:, number - first - 1], layer)

        def with_new_tokens(soft_tokens: Tensor, layer: Layer, hidden: Tensor) -> Tensor:
            return layer(insert_soft_tokens(soft_tokens.to(hidden.dtype), hidden, batch, task))

        backbone, entering = self.context.backbone, self.context.entering_with(parts["prompt"], batch, task)
        return backbone.hidden_states(entering, batch.attention_mask, first, wrapper=wrapper, **reading)
