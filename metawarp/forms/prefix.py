"""Keys and values in front of those of the tokens, at every layer.

References:
    Li, Liang (2021), "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL, sec. 4.
    Liu et al. (2022), "P-Tuning v2", ACL.
"""

from __future__ import annotations

import torch
from torch import Tensor

from episodes import InputError
from episodes.errors import listing
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Layer
from metawarp.forms.form import Form, Parts
from metawarp.texts.encoded import EncodedBatch


class Prefix(Form):
    """As many pairs for each layer as the template has soft tokens, whose places do not matter and are left out."""

    needs_soft_tokens = True

    def __post_init__(self) -> None:
        """Refuse a family whose attention cannot be given more keys than there are tokens."""
        super().__post_init__()
        if self.backbone.content_attention(0) is None:
            known = {of.family.name: None for of in ARCHITECTURES.values() if of.family.content_attention}
            raise InputError(
                f"form prefix is not known for backbones of type {self.backbone.family.name}; use form deep, or a "
                f"backbone of type {listing(known)}."
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Keys and values (L, 2, K, h)."""
        return {"prompt": (self.backbone.n_layers - self.layer, 2, self.n_soft, self.backbone.hidden_size)}

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """What each layer makes of soft tokens at the input."""
        each = [
            self._attention(layer).keys_values(self.states_of(soft, layer).to(self.backbone.dtype)).to(soft)
            for layer in range(self.layer, self.backbone.n_layers)
        ]
        return {"prompt": torch.stack(each)}

    def shown(self, batch: EncodedBatch) -> EncodedBatch:
        """Without soft tokens."""
        return batch.without_prompt()

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """The tokens alone, each layer with its keys and values in front."""

        def around(number: int, layer: Layer) -> Layer:
            pairs = parts["prompt"][task, number - self.layer].to(self.backbone.dtype)
            attention = self._attention(number)
            return lambda hidden: attention(hidden, hidden, batch.attention_mask, pairs)

        entering = self.entering(batch, parts["prompt"].dtype)
        return self.backbone.hidden_states(entering, batch.attention_mask, self.layer, head_at=head_at, around=around)

    def _attention(self, layer: int) -> ContentAttention:
        found = self.backbone.content_attention(layer)
        assert found is not None
        return found
