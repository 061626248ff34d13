"""What one task costs: seconds and memory to adapt and predict it, and numbers to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch

from episodes import Episode
from metawarp.adaptation import InnerLoop, moves_prompt
from metawarp.evaluation import Predictor
from metawarp.held import as_if_unread
from metawarp.warp import Warp


def cost_of(predictor: Predictor, episodes: Sequence[Episode]) -> dict[str, float | None]:
    """Mean seconds of a task that is read, adapted and predicted alone, and the memory that the first of them needed.

    Args:
        predictor: what it has read before is read again.
        episodes: two at least; the first warms up and is not timed.
    """
    with as_if_unread():
        peak = peak_megabytes(lambda: list(predictor(episodes[:1])))
        began = time.perf_counter()
        for episode in episodes[1:]:
            list(predictor([episode]))
        seconds = time.perf_counter() - began
    return {"seconds_a_task": seconds / (len(episodes) - 1), "peak_megabytes": peak}


def numbers_a_task(warp: Warp, inner: InnerLoop, ways: int) -> int:
    """Numbers that an adapted task of so many classes keeps beside the init: rows, and its prompt where that moves."""
    prompt = warp.encoder.prompt_length * warp.backbone.embedding_size if moves_prompt(inner) else 0
    return ways * warp.row_size + prompt


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
    forget.write_text("5")  # the peak so far
    before = psutil.Process().memory_info().rss
    work()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return max(0.0, (peak * 1024 - before) / 1e6)
