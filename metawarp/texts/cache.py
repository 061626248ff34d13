"""What a frozen model made of texts, cached in memory up to a limit; what was longest unused goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from metawarp.texts.encoded import EncodedBatch

_BYPASSED = ContextVar("bypassed", default=False)


@contextmanager
def cache_bypassed() -> Iterator[None]:
    """Inside, caches are neither read nor filled, so that a first reading can be timed."""
    token = _BYPASSED.set(True)
    try:
        yield
    finally:
        _BYPASSED.reset(token)


class TensorCache:
    """Tensors by the token ids that they were computed from.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tensors: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    def of(self, batch: EncodedBatch, compute: Callable[[EncodedBatch], Iterable[Tensor]]) -> Tensor:
        """What a function makes of each text of a batch, (B, …), called with those alone that are not cached yet."""
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
        if _BYPASSED.get():
            return None
        if key in self._tensors:
            self._tensors.move_to_end(key)
        return self._tensors.get(key)

    def put(self, new: Mapping[bytes, Tensor]) -> None:
        """Cache some more, which are not there yet."""
        if _BYPASSED.get():
            return
        self._tensors.update(new)
        self._bytes += sum(tensor.nbytes for tensor in new.values())
        while self._bytes > self.limit:
            self._bytes -= self._tensors.popitem(last=False)[1].nbytes
