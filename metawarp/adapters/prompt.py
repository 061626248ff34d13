"""Soft tokens among the tokens of the text, at the first layer or a later one.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL.
    Lester, Al-Rfou, Constant (2021), "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP.
"""

from dataclasses import dataclass
from typing import Unpack, final

import torch
from torch import Tensor

from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class Prompt(Adapter):
    """K soft tokens (K, w), as wide as the input states of the layer."""

    context: AdapterContext

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"prompt": (self.context.n_soft_tokens, self.context.width)}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        return {"prompt": self.context.soft_tokens_at(self.context.layer, soft_tokens)}

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        entering = self.context.entering_with(parts["prompt"], batch, task)
        return self.context.backbone.hidden_states(entering, batch.attention_mask, self.context.layer, **reading)
