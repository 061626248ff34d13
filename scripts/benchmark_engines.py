"""Seconds and memory of one meta-gradient: learn2learn, the ways of metawarp, and the floor, on the same episodes.

    python scripts/benchmark_engines.py             # benchmarks/engines.json, and the table
    python scripts/benchmark_engines.py --quick     # one small setting, under two minutes
    python scripts/benchmark_engines.py --lines     # cost against inner steps S, with the line through it

Every case takes the meta-gradient of the same T tasks of the bundled corpus (5-way 5-shot, 15 queries) with S inner
steps, on the same backbone, in fp32 where nothing else is said. Times are medians over rounds in which the cases take
turns (A B C A B C …); memory is the peak above the loaded model, each case in a fresh process. learn2learn takes one
task at a time, whatever T is, so it is timed on one of them, the next in each round. A prompt at half depth finds what
lies below in a file. The floor is the plain forward and backward pass of exactly the tokens that a first-order method
has to read, S times the support texts and once the queries and names, without any padding.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import transformers
from engine_cases import CASES, HALF, HALF_FIRST, LATE, PEER, PROMPT_PEER

from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.memory import MemoryLimitError
from metawarp.adaptation.tasks import TaskBatch
from metawarp.evaluation.cost import peak_megabytes
from metawarp.outputs import write_text

FILE = Path("benchmarks/engines.json")
K_SHOT = 5
QUICK_CASES = [PEER, PROMPT_PEER, "unroll", "recompute", "fomaml", LATE, "floor"]
LINE_STEPS = [1, 5, 10, 20, 50]
LINE_CASES = ["unroll", "recompute", "imaml", "fomaml", "reptile", "anil"]

_backbone = lru_cache(lambda device, dtype: Backbone.load("minilm", device=device, dtype=dtype))


class Bench:
    """Model, state and tasks of one setting.

    Args:
        case: what is measured.
        steps: inner steps S.
        n_tasks: tasks T.
        k_shot: support texts a class.
        device: where it runs.
    """

    def __init__(self, case: str, steps: int, n_tasks: int, k_shot: int, device: str) -> None:
        transformers.utils.logging.disable_progress_bar()
        dtype = "bfloat16" if case in (HALF, HALF_FIRST) else "float32"
        backbone = _backbone(device, dtype)
        # The plain WARP model, as learn2learn's module is: nothing that could be computed once a text.
        late = backbone.n_layers // 2 if case == LATE else 0
        config = WarpConfig(read_out="mean+mask", rows="mix", prompt_layer=late)
        self.case, self.warp, self.steps, self.device = case, Warp(backbone, config), steps, device
        init = Init.start(self.warp, InnerLoop(steps, GROUPS))
        self.state = {name: tensor.requires_grad_() for name, tensor in init.to(backbone).items()}
        corpus = Corpus.load("everyday").split_classes("everyday").train
        sampler = EpisodeSampler(corpus, n_way=5, k_shot=k_shot, n_query=15)
        self.tasks = TaskBatch.encode([sampler[i] for i in range(n_tasks)], self.warp.encoder, device)
        if self.warp.lower is not None:
            self.cache = tempfile.TemporaryDirectory()
            self.warp.remember([*corpus.texts, *corpus.class_names], self.cache.name)

    def seconds(self, turn: int = 0) -> float:
        """Wall-clock seconds a task."""
        tasks = self.tasks.task(turn % len(self.tasks)) if self.case in (PEER, PROMPT_PEER) else self.tasks
        self._wait()
        began = time.perf_counter()
        CASES[self.case](self.warp, self.state, tasks, self.steps)
        self._wait()
        return (time.perf_counter() - began) / len(tasks)

    def peak(self) -> float | None:
        """Megabytes above the loaded model at the worst moment."""
        return peak_megabytes(self.seconds, self.device)

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


Figures = dict[str, dict[str, float | None]]
"""By case: seconds a task, megabytes, and their ratios; None where it does not fit into memory."""


def measure(cases: Sequence[str], steps: int, n_tasks: int, k_shot: int, rounds: int, device: str) -> Figures:
    """Median seconds of a task and peak megabytes of each case; the cases take turns."""
    setting = (steps, n_tasks, k_shot, device)
    benches = {case: Bench(case, *setting) for case in cases}
    taken: dict[str, list[float]] = {case: [] for case in cases}
    refused = set()
    warming = n_tasks == 1  # many tasks take so long that they warm up by themselves
    for turn in range(rounds + warming):
        for case, bench in benches.items():
            try:
                seconds = bench.seconds(turn) if case not in refused else 0.0
            except (MemoryLimitError, torch.OutOfMemoryError):
                refused.add(case)
            else:
                taken[case] += [] if warming and turn == 0 else [seconds]
    found: Figures = {}
    for case in cases:
        if case in refused:
            found[case] = {"seconds_a_task": None, "peak_megabytes": None}
            continue
        command = [sys.executable, __file__, "--peak", json.dumps([case, *setting])]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        found[case] = {
            "seconds_a_task": float(np.median(taken[case])),
            "peak_megabytes": json.loads(ended.stdout),
        }
    return found


def with_ratios(found: Figures) -> Figures:
    """The same with time and memory as shares of the peer's, and speed as a share of the floor's."""

    def ratio(case: str, other: str, of: str) -> float | None:
        one, two = (found.get(name, {}).get(of) for name in (case, other))
        return one / two if one and two else None

    return {
        case: {
            **values,
            "time_to_peer": ratio(case, PEER, "seconds_a_task"),
            "memory_to_peer": ratio(case, PEER, "peak_megabytes"),
            "speed_to_floor": ratio("floor", case, "seconds_a_task"),
        }
        for case, values in found.items()
    }


def table(found: Figures) -> str:
    """One line a case, for people."""
    lines = [f"{'':<26}{'s / task':>9}{'MB':>8}{'time : peer':>13}{'memory : peer':>15}{'speed : floor':>15}"]
    for case, values in found.items():
        widths = zip(values.values(), (9, 8, 13, 15, 15), (2, 0, 2, 2, 2), strict=True)
        cells = (
            "–".rjust(width) if value is None else f"{value:>{width}.{digits}f}" for value, width, digits in widths
        )
        lines.append(f"{case:<26}{''.join(cells)}")
    return "\n".join(lines)


def lines(rounds: int, device: str) -> dict[str, dict[str, list[float]]]:
    """Cost of one 5-way 1-shot task against inner steps S: figures at `LINE_STEPS`, and the line through them."""
    figures = {steps: measure(LINE_CASES, steps, 1, 1, rounds, device) for steps in LINE_STEPS}
    found: dict[str, dict[str, list[float]]] = {}
    for case in LINE_CASES:
        found[case] = {}
        for of in ("seconds_a_task", "peak_megabytes"):
            values = [value for steps in LINE_STEPS if (value := figures[steps][case][of]) is not None]
            if len(values) < len(LINE_STEPS):
                continue
            slope, start = np.polyfit(LINE_STEPS, values, 1)
            off = float(np.abs(start + slope * np.array(LINE_STEPS) - values).max() / max(values))
            found[case][of] = values
            found[case][f"{of}: start, slope, largest distance"] = [float(start), float(slope), off]
            print(
                f"{case:<12}{of:<16}{start:>9.2f} + {slope:>8.3f} · S   (within {off:.1%} of the largest)", flush=True
            )
    return found


def main() -> None:
    """Measure, write JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 15], help="inner steps S")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4, 16], help="tasks T of one meta-gradient")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--lines", action="store_true", help="instead: cost against S = 1 … 50, and the lines through")
    parser.add_argument("--quick", action="store_true", help="S = 3, T = 1, one round, fewer cases; nothing is written")
    parser.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak = None
        with suppress(MemoryLimitError, torch.OutOfMemoryError):
            peak = Bench(*options.peak).peak()
        print(json.dumps(peak))
        return
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    if results.get("device", options.device) != options.device:
        parser.error(f"{options.output} holds figures of {results['device']}; name another --output")
    results |= {"threads": torch.get_num_threads(), "device": options.device}
    if options.lines:
        results["lines"] = {"steps": LINE_STEPS, **lines(options.rounds, options.device)}
        write_text(options.output, json.dumps(results, indent=1) + "\n")
        return
    if options.quick:
        options.steps, options.tasks, options.rounds, options.cases = [3], [1], 1, QUICK_CASES
    for steps in options.steps:
        for n_tasks in options.tasks:
            settings, name = results.setdefault("settings", {}), f"S = {steps}, T = {n_tasks}"
            before = {} if options.quick else settings.get(name, {})  # cases that are not asked for stay
            found = measure(options.cases, steps, n_tasks, K_SHOT, options.rounds, options.device)
            settings[name] = with_ratios(before | found)
            print(f"\n{name}\n{table(settings[name])}", flush=True)
            if not options.quick:
                write_text(options.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
