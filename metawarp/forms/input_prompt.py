"""Soft tokens among those of the text, at the first layer or a later one.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL.
    Lester, Al-Rfou, Constant (2021), "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metawarp.forms.form import Form, Parts, placed
from metawarp.texts.encoded import EncodedBatch


class InputPrompt(Form):
    """K vectors of the width of what enters the layer."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """(K, d)."""
        return {"prompt": (self.n_soft, self.width)}

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """As they are; for a later layer, as those below leave them."""
        return {"prompt": self.left_by(soft, self.layer)}

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """Soft tokens in their places, and on through the layers."""
        entering = placed(parts["prompt"], self.entering(batch, parts["prompt"].dtype), batch, task)
        return self.backbone.hidden_states(entering, batch.attention_mask, self.layer, head_at=head_at)
