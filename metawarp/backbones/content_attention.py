"""Attention by content alone, taken apart: some positions without the others, and keys and values beside the texts'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ContentAttention:
    """One layer of a model in which no distance plays a part in attention.

    Attributes:
        query: projection (…, h) → (…, h).
        key: the same.
        value: the same.
        n_heads: number of heads.
        finish: from what the heads mixed (B, m, h), and the states (B, m, h) that the queries were made of, to what
            leaves the layer.
    """

    query: nn.Module
    key: nn.Module
    value: nn.Module
    n_heads: int
    finish: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, here: Tensor, hidden: Tensor, mask: Tensor, pairs: Tensor | None = None) -> Tensor:
        """What the layer makes of some positions (B, m, h) that see all (B, n, h) where the mask (B, n) is true.

        Keys and values `pairs` (B, 2, K, h) stand in front of those of the positions.
        """
        keys, values = self.key(hidden), self.value(hidden)
        if pairs is not None:
            keys, values = (torch.cat(both, dim=1) for both in ((pairs[:, 0], keys), (pairs[:, 1], values)))
            mask = nn.functional.pad(mask, (pairs.shape[2], 0), value=True)
        mixed = nn.functional.scaled_dot_product_attention(
            *(self._heads(vectors) for vectors in (self.query(here), keys, values)),
            attn_mask=mask[:, None, None, :].bool(),
        )
        return self.finish(mixed.transpose(1, 2).flatten(2), here)

    def keys_values(self, vectors: Tensor) -> Tensor:
        """Keys and values (2, K, h) of vectors (K, h) that enter the layer."""
        return torch.stack([self.key(vectors), self.value(vectors)])

    def _heads(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
