"""Attention layers computed by hand: for some positions only, or with additional keys and values (prefixes)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ContentAttention:
    """One layer whose attention depends on the content of the tokens alone, not on their distances.

    Attributes:
        query: projection (…, h) → (…, h) to queries.
        key: projection to keys.
        value: projection to values.
        n_heads: number of attention heads.
        rest_of_layer: function of the attention output (B, m, h) and the input states (B, m, h) of the queries; returns
            the output of the layer (B, m, h).
    """

    query: nn.Module
    key: nn.Module
    value: nn.Module
    n_heads: int
    rest_of_layer: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, query_states: Tensor, hidden: Tensor, mask: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Output of the layer (B, m, h) at some positions, whose input states are `query_states` (B, m, h).

        They attend to all positions, with input states `hidden` (B, n, h), where `mask` (B, n) is true. `prefix`
        (B, 2, K, h) has additional keys and values, placed before those of the tokens.
        """
        keys, values = self.key(hidden), self.value(hidden)
        if prefix is not None:
            keys, values = torch.cat([prefix[:, 0], keys], dim=1), torch.cat([prefix[:, 1], values], dim=1)
            mask = nn.functional.pad(mask, (prefix.shape[2], 0), value=True)
        projected = self.query(query_states), keys, values
        heads = [states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for states in projected]
        attended = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask[:, None, None, :].bool())
        return self.rest_of_layer(attended.transpose(1, 2).flatten(2), query_states)

    def keys_values(self, hidden: Tensor) -> Tensor:
        """Keys and values (2, K, h) of K input states (K, h)."""
        return torch.stack([self.key(hidden), self.value(hidden)])
