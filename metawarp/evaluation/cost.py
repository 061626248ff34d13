"""What one task costs: seconds and memory to adapt and predict it, and numbers to keep."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from episodes import Episode
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.evaluation.scores import Predictor
from metawarp.model.warp import Warp
from metawarp.texts.cache import cache_bypassed

COSTS = ("seconds_a_task", "peak_megabytes", "numbers_a_task", "numbers_learned", "training_seconds_a_task")
"""What is said of a task's cost, and of that of an init: how many numbers it has, and the time of a training task."""


def cost_of(predictor: Predictor, episodes: Sequence[Episode]) -> dict[str, float | None]:
    """Median seconds of a task that one thread reads, adapts and predicts alone, and the memory that the first needed.

    Args:
        predictor: what it has read before is read again, if not tokenized.
        episodes: two at least; the first warms up and is not timed.
    """
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with cache_bypassed():
            peak = peak_megabytes(lambda: list(predictor(episodes[:1])))
            for episode in episodes[1:]:
                began = time.perf_counter()
                list(predictor([episode]))
                seconds.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return {"seconds_a_task": float(np.median(seconds)), "peak_megabytes": peak}


def numbers_a_task(warp: Warp, inner: InnerLoop, ways: int) -> int:
    """Numbers that an adapted task of so many classes keeps beside the init: rows, and its prompt where that moves."""
    return ways * warp.row_size + (warp.form.size if inner.moves_prompt else 0)


def peak_megabytes(work: Callable[[], object], device: str = "cpu") -> float | None:
    """Megabytes above what is held before, at the worst moment of some work; None where only Linux could say it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        work()
        return None
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free counts as held otherwise, and hides what the work takes
    forget.write_text("5")  # the peak so far
    before = psutil.Process().memory_info().rss
    work()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (peak * 1024 - before) / 1e6
