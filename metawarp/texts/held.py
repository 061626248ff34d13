"""Tensors held in memory by what they were computed from, up to a limit; those longest unused go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from metawarp.texts.encoded import EncodedBatch

_UNREAD = ContextVar("unread", default=False)


@contextmanager
def as_if_unread() -> Iterator[None]:
    """Inside, nothing that is held is found, and nothing more is held: so that first readings can be timed."""
    token = _UNREAD.set(True)
    try:
        yield
    finally:
        _UNREAD.reset(token)


class Held:
    """What a frozen model made of texts.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tensors: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    def of(self, batch: EncodedBatch, compute: Callable[[EncodedBatch], Iterable[Tensor]]) -> Tensor:
        """What a function makes of each text of a batch, (B, …), called with those alone that are not held yet."""
        keys = batch.keys()
        found = {key: tensor for key in keys if (tensor := self.get(key)) is not None}
        new = {key: row for row, key in enumerate(keys) if key not in found}
        if new:
            # Each a tensor of its own: a slice would keep all of them.
            rows = torch.tensor(list(new.values()))
            computed = {key: one.clone() for key, one in zip(new, compute(batch.select(rows)), strict=True)}
            found.update(computed)
            self.put(computed)
        return torch.stack([found[key] for key in keys])

    def get(self, key: bytes) -> Tensor | None:
        """The tensor of a key, if it is still there."""
        if _UNREAD.get():
            return None
        if key in self._tensors:
            self._tensors.move_to_end(key)
        return self._tensors.get(key)

    def put(self, new: Mapping[bytes, Tensor]) -> None:
        """Hold some more, which are not there yet."""
        if _UNREAD.get():
            return
        self._tensors.update(new)
        self._bytes += sum(tensor.nbytes for tensor in new.values())
        while self._bytes > self.limit:
            self._bytes -= self._tensors.popitem(last=False)[1].nbytes
