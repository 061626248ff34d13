"""Tensors held in memory by what they were computed from, up to a limit; those longest unused go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor


class Held:
    """What a frozen model made of texts.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tensors: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> Tensor | None:
        """The tensor of a key, if it is still there."""
        if key in self._tensors:
            self._tensors.move_to_end(key)
        return self._tensors.get(key)

    def put(self, new: Mapping[bytes, Tensor]) -> None:
        """Hold some more, which are not there yet."""
        self._tensors.update(new)
        self._bytes += sum(tensor.nbytes for tensor in new.values())
        while self._bytes > self.limit:
            self._bytes -= self._tensors.popitem(last=False)[1].nbytes
