"""What a fit learns about its unlabelled texts on the way, for whoever wants to warn about them.

The features of the texts are known only while class embeddings are computed, deep inside a fit. A record is therefore
kept for the code that surrounds the fit, as `warnings.catch_warnings` keeps warnings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

_QUANTILE = 0.25
"""Share of the labelled texts that are less like the other labelled ones than a similar text is."""


@dataclass(frozen=True)
class PoolRecord:
    """The unlabelled texts of one task.

    Attributes:
        n_texts: number of unlabelled texts.
        n_labelled: number of labelled texts.
        shares: (C,) share of each class in the texts, as the fit without them predicts it.
        unlike: share of the texts that are less similar to every labelled text than a quarter of the labelled texts are
            to every other one; 0 with fewer than two labelled texts.
    """

    n_texts: int
    n_labelled: int
    shares: Tensor
    unlike: float

    @classmethod
    def of(cls, logits: Tensor, unlabelled: Tensor, support: Tensor | None) -> Self:
        """The record of U texts from their logits (U, C) and features (U, d), and features (B, d) of the labelled
        texts; None if there are none."""
        shares = logits.softmax(1).mean(0)
        if support is None or len(support) < 2:
            return cls(len(unlabelled), 0 if support is None else len(support), shares, 0.0)
        points = normalize(support, dim=1)
        nearest = (points @ points.T).fill_diagonal_(-1).amax(1)
        threshold = nearest.quantile(_QUANTILE)
        similar = (normalize(unlabelled, dim=1) @ points.T).amax(1) >= threshold
        return cls(len(unlabelled), len(support), shares, 1 - float(similar.float().mean()))


_records: ContextVar[list[PoolRecord] | None] = ContextVar("pool records", default=None)


@contextmanager
def recorded_pools() -> Iterator[list[PoolRecord]]:
    """A list to which every fit of one task with unlabelled texts adds its record, inside the `with` block."""
    records: list[PoolRecord] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


@torch.no_grad()
def record_pool(logits: Tensor, unlabelled: Tensor, support: Tensor | None, n_tasks: int) -> None:
    """Add the record of a task, if somebody keeps them and the texts are those of one task; the arguments are those of
    `PoolRecord.of`."""
    if n_tasks == 1 and (records := _records.get()) is not None:
        records.append(PoolRecord.of(logits, unlabelled, support))
