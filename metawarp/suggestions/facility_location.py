"""Greedy facility location: choose the texts that stand for as many others as possible.

Each text of the pool is covered as far as the most similar chosen text is similar to it. The next choice is the text
that adds the most coverage. This needs no number of clusters, continues from texts that are chosen already, and its
first k choices are the choices for k.

References:
    Nemhauser, Wolsey, Fisher (1978), "An Analysis of Approximations for Maximizing Submodular Set Functions",
    Mathematical Programming 14: greedy choices reach at least 1 - 1/e of the best possible coverage.
    Wei, Iyer, Bilmes (2015), "Submodularity in Data Subset Selection and Active Learning", ICML, sec. 3.
    Minoux (1978), "Accelerated Greedy Algorithms for Maximizing Submodular Set Functions": what a text adds never
    grows, so that only texts whose last gain was large have to be looked at again.
"""

import torch
from torch import Tensor

ROWS_AT_ONCE = 1024
"""Number of texts whose gain is computed at once for all, which bounds the memory."""

ROWS_AGAIN = 64
"""Number of texts whose gain is computed again at once."""


TIE = 1e-6
"""Relative difference of two gains that rounding can cause; they count as equal."""


def greedy_choices(similarity: Tensor, weights: Tensor, covered: Tensor, candidates: Tensor, n: int) -> list[int]:
    """The indices of n texts, best first.

    Args:
        similarity: (N, M) similarity, at least 0, of each of N texts to each of M texts that are to be covered.
        weights: (M,) how much the coverage of each text counts.
        covered: (M,) how far each text is covered before the first choice; zero for not at all.
        candidates: (N,) true for texts that may be chosen; at least n of them.
        n: number of texts.
    """
    chosen: list[int] = []
    parts = similarity.split(ROWS_AT_ONCE)
    gains = torch.cat([_gains(part, weights, covered) for part in parts]).masked_fill(~candidates, -1.0)
    while len(chosen) < n:
        rows = gains.topk(min(ROWS_AGAIN, int((gains >= 0).sum()))).indices
        gains[rows] = _gains(similarity[rows], weights, covered)
        best = rows[gains[rows].argmax()]
        if gains[best] >= gains.max() * (1 - TIE):  # all other gains are at most what they were
            chosen.append(int(best))
            gains[best] = -1.0
            covered = torch.maximum(covered, similarity[best])
    return chosen


def _gains(similarity: Tensor, weights: Tensor, covered: Tensor) -> Tensor:
    """Coverage (R,) that each of R texts would add, from their similarities (R, M)."""
    return (similarity - covered).clamp_(min=0) @ weights
