"""Soft tokens of its own before every layer: what a layer leaves in their places is not what the next one sees.

References:
    Liu, Ji, Fu, Tam, Du, Yang, Tang (2022), "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally
    Across Scales and Tasks", ACL, in the form of hidden states.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from metawarp.backbones.family import Layer
from metawarp.forms.form import Form, Parts, placed
from metawarp.texts.encoded import EncodedBatch


class DeepPrompt(Form):
    """K vectors for each layer from the form's first on."""

    soft_parts = ("prompt", "later")
    needs_soft_tokens = True

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the first layer (K, d), and of the others (L - 1, K, h)."""
        later = self.backbone.n_layers - 1 - self.layer
        return {"prompt": (self.n_soft, self.width), "later": (later, self.n_soft, self.backbone.hidden_size)}

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """Each layer's as the layers below it leave those of the first: where a prompt at the input would be."""
        later = [self.left_by(soft, layer) for layer in range(self.layer + 1, self.backbone.n_layers)]
        return {
            "prompt": self.left_by(soft, self.layer),
            "later": torch.stack(later) if later else soft.new_zeros(self.shapes["later"]),
        }

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """Soft tokens in their places, before each layer anew."""

        def around(number: int, layer: Layer) -> Layer:
            if number == self.layer:
                return layer
            return partial(replaced, parts["later"][:, number - self.layer - 1], layer)

        def replaced(soft: Tensor, layer: Layer, hidden: Tensor) -> Tensor:
            return layer(placed(soft.to(hidden.dtype), hidden, batch, task))

        entering = placed(parts["prompt"], self.entering(batch, parts["prompt"].dtype), batch, task)
        return self.backbone.hidden_states(entering, batch.attention_mask, self.layer, head_at=head_at, around=around)
