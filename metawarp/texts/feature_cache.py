"""One cache for everything that frozen layers compute of texts: bounded in bytes, safe under threads."""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

import torch
from torch import Tensor

from metawarp.texts.encoded_batch import EncodedBatch

DEFAULT_BYTES = 2**30
"""Size of the cache that training and evaluation use unless another is given."""

_ENTRY_BYTES = 128
"""Bytes that an entry of an OrderedDict takes beside key and value, allocator included (at most 106 were measured)."""


class FeatureCache:
    """Bytes by key; when they exceed the limit, the least recently used entries are dropped.

    One cache may serve several models: keys contain the identity of what was computed (see `CacheScope`). `max_bytes`
    limits the memory that keys, values and the dictionary take, of which `n_bytes` are in use.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are in the cache."""
        with self._lock:
            values = {key: self._entries[key] for key in keys if key in self._entries}
            for key in values:
                self._entries.move_to_end(key)
            return values

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Add entries; those that are there already stay."""
        with self._lock:
            for key, value in entries.items():
                if key not in self._entries:
                    self._entries[key] = value
                    self.n_bytes += _size(key, value)
            while self.n_bytes > self.max_bytes:
                self.n_bytes -= _size(*self._entries.popitem(last=False))


class CacheScope:
    """The part of a cache for one kind of result, such as embeddings of one backbone. The identity is everything that
    the results depend on, beside the text. Without a cache nothing is kept."""

    def __init__(self, cache: FeatureCache | None, *identity: object) -> None:
        self.cache = cache
        self._salt = hashlib.blake2b(repr(identity).encode(), digest_size=16).digest()

    def values(self, items: Sequence[bytes], compute: Callable[[list[int]], Iterable[bytes]]) -> list[bytes]:
        """One value per item; `compute` is called with the indices of items that are not cached."""
        keys = [hashlib.blake2b(item, digest_size=16, key=self._salt).digest() for item in items]
        values = {} if self.cache is None else self.cache.get(keys)
        if new := {key: row for row, key in enumerate(keys) if key not in values}:
            computed = dict(zip(new, compute(list(new.values())), strict=True))
            values |= computed
            if self.cache is not None:
                self.cache.put(computed)
        return [values[key] for key in keys]

    def rows(
        self, batch: EncodedBatch, compute: Callable[[EncodedBatch], Tensor], shape: tuple[int, ...], dtype: torch.dtype
    ) -> Tensor:
        """One tensor per text, (B, *shape) on the CPU, for B texts on the CPU.

        `compute` returns the tensors (R, *shape) of the given data type of the R texts that are not cached.
        """
        if self.cache is None:
            return compute(batch)
        values = self.values(batch.keys(), lambda rows: to_bytes(compute(batch.select(torch.tensor(rows)))))
        return from_bytes(values, dtype).view(len(batch), *shape)


def to_bytes(rows: Tensor) -> list[bytes]:
    """The bytes of each row of a tensor on the CPU."""
    return [row.contiguous().view(torch.uint8).numpy().tobytes() for row in rows.detach()]


def from_bytes(values: Sequence[bytes], dtype: torch.dtype) -> Tensor:
    """The numbers of several byte strings, one after the other, in one tensor."""
    content = bytearray().join(values)
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _size(key: bytes, value: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(value) + _ENTRY_BYTES
