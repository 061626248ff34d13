"""What a computation costs: seconds, and memory at its worst moment."""

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

import numpy as np
import psutil
import torch

from episodes import Episode
from metawarp.evaluation.predictors import Predictor
from metawarp.texts.feature_cache import FeatureCache


class Cost(TypedDict):
    """Median seconds of a task, and the memory of one; None if it is unknown."""

    seconds_per_task: float
    peak_megabytes: float | None


class PausableCache(FeatureCache):
    """A cache that can be paused, so that a text that was read before costs what a new text costs."""

    _paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which nothing is found in the cache and nothing is added to it."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are in the cache; none while it is paused."""
        return {} if self._paused else super().get(keys)

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Add entries, unless the cache is paused."""
        if not self._paused:
            super().put(entries)


def cost_of(predictor: Predictor, episodes: Sequence[Episode]) -> Cost:
    """Seconds and memory of one task that a single thread reads, adapts to and predicts.

    Args:
        predictor: a predictor without a cache, or with one that is paused.
        episodes: two episodes at least; the first warms up.

    Returns:
        Median seconds of all episodes but the first, and the memory of the first.
    """
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        peak = peak_megabytes(lambda: list(predictor(episodes[:1])))
        for episode in episodes[1:]:
            start = time.perf_counter()
            list(predictor([episode]))
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return {"seconds_per_task": float(np.median(seconds)), "peak_megabytes": peak}


def peak_megabytes(work: Callable[[], object], device: str = "cpu") -> float | None:
    """Memory that some work takes at its worst moment, above what is allocated before.

    Args:
        work: function to call.
        device: device whose memory counts.

    Returns:
        Megabytes; None for the memory of a CPU if the system is not Linux.
    """
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        work()
        return None
    with suppress(OSError, AttributeError):  # another C library than glibc
        # Memory that the allocator keeps for later counts as used, and would hide what the work takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    reset.write_text("5")  # sets the recorded peak back to the current value (man 5 proc)
    before = psutil.Process().memory_info().rss
    work()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (peak * 1024 - before) / 1e6
