"""Pooling: from the hidden states of a text's tokens to one vector. The modes and their names are those of
sentence-transformers.

References:
    Reimers, Gurevych (2019), "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP, sec. 3.
    Muennighoff (2022), "SGPT: GPT Sentence Embeddings for Semantic Search", eq. 2 ("weightedmean").
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metawarp.backbones.family import at_positions

PoolingMode = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From hidden states (B, n, h), the pooled places (B, n), and the rank (B, n) of each place among the tokens of its
text, counted from 1, to vectors (B, h)."""


def _first(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    return at_positions(hidden, places.int().argmax(1))


def _last(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    return at_positions(hidden, torch.where(places, rank, 0).argmax(1))


def _max(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    return hidden.masked_fill(~places[..., None], float("-inf")).amax(1)


def _mean(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    return _weighted_sum(hidden, places) / _number(places, hidden)


def _mean_sqrt_len(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    return _weighted_sum(hidden, places) / _number(places, hidden).sqrt()


def _weighted_mean(hidden: Tensor, places: Tensor, rank: Tensor) -> Tensor:
    weights = rank * places
    return _weighted_sum(hidden, weights) / _number(weights, hidden)


POOLING_MODES: dict[str, PoolingMode] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""The pooling modes by name, in the order in which sentence-transformers concatenates them."""


@dataclass(frozen=True)
class Pooling:
    """How the hidden states of a text become one vector.

    Attributes:
        modes: names of the pooling modes; the vectors of several are concatenated.
        include_prompt: whether the tokens of the text prompt, and the special tokens before them, are pooled too.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True

    def __call__(self, hidden: Tensor, places: Tensor, n_prompt_tokens: int = 0) -> Tensor:
        """Vectors (B, p·h) for p modes.

        Args:
            hidden: hidden states (B, n, h).
            places: (B, n), true at the tokens of the text and the special tokens around it; at least one per text.
            n_prompt_tokens: number of tokens, counted from the first one, that `include_prompt=False` leaves out.
        """
        places = places.bool()
        rank = places.long().cumsum(1)
        if not self.include_prompt:
            kept = places & (rank > n_prompt_tokens)
            places = torch.where(kept.any(1, keepdim=True), kept, places)  # all that an empty text has is its prompt
        return torch.cat([POOLING_MODES[mode](hidden, places, rank) for mode in self.modes], dim=-1)


def _weighted_sum(hidden: Tensor, weights: Tensor) -> Tensor:
    return (hidden * weights.to(hidden.dtype)[..., None]).sum(1)


def _number(weights: Tensor, hidden: Tensor) -> Tensor:
    """Sum (B, 1) of the weights; 1 for a text without tokens, whose vector is then zero."""
    return weights.to(hidden.dtype).sum(1, keepdim=True).clamp(min=1)
