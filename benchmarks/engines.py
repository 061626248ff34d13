"""Seconds and memory of one meta-gradient: learn2learn, the engine of metawarp, and bare passes, on the same episodes.

    python -m benchmarks.engines             # writes results/engines.json, about an hour
    python -m benchmarks.engines --quick     # one small setting, a few minutes; nothing is written
    python -m benchmarks.engines --lines     # cost against the number S of inner steps, and the line through it

Every case computes the meta-gradient of the same T tasks of the bundled corpus (5-way 5-shot, 15 queries) with S inner
steps, on the same backbone, in float32 unless it says otherwise. Times are medians over rounds in which the cases take
turns (A B C A B C …). Memory is the peak above the loaded model, each case in a fresh process. learn2learn computes one
task after the other, whatever T is, so one task is timed, another one in each round. A prompt at half depth finds the
output of the layers below in a file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import transformers

from benchmarks.engine_timing.cases import BARE_PASSES, CASES, LATE, WHOLE_MODEL
from benchmarks.engine_timing.results import CaseCost, EngineResults, Line, Lines, Quantity, ratio_rows, setting_name
from benchmarks.record import RESULTS
from benchmarks.runner.cost import peak_megabytes
from episodes import Corpus, EpisodeSampler
from episodes.writing import write_text
from metawarp.backbones.store import BackboneStore
from metawarp.config import GROUPS, InnerLoop, WarpConfig
from metawarp.errors import MemoryLimitError
from metawarp.inits.init import Init
from metawarp.parameters import mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

ROOT = Path(__file__).parents[1]
FILE = RESULTS / "engines.json"
K_SHOT = 5
QUICK_CASES = [WHOLE_MODEL, "learn2learn, prompt", "unroll", "recompute", "fomaml", LATE, BARE_PASSES]
LINE_STEPS = [1, 5, 10, 20, 50]
LINE_CASES = ["unroll", "recompute", "fomaml", "reptile", "anil"]
QUANTITIES: tuple[Quantity, ...] = ("seconds_per_task", "peak_megabytes")
BACKBONES = BackboneStore()


class PreparedCase:
    """The model, the init and the tasks of one case.

    Args:
        name: name of the case.
        inner_steps: number S of inner steps.
        n_tasks: number T of tasks.
        k_shot: number of support texts per class.
        device: device of the model.
    """

    def __init__(self, name: str, inner_steps: int, n_tasks: int, k_shot: int, device: str) -> None:
        transformers.utils.logging.disable_progress_bar()
        self.case, self.inner_steps, self.device = CASES[name], inner_steps, device
        backbone = BACKBONES.get("minilm", device=device, dtype=self.case.dtype)
        # The plain WARP model, as in learn2learn's module: nothing of it can be computed once per text.
        layer = backbone.n_layers // 2 if self.case.half_depth else 0
        config = WarpConfig(read_out="mean+mask", verbalizer="mix", adapter_layer=layer)
        self.warp = Warp(backbone, config)
        corpus = Corpus.load("everyday").split_classes("everyday").train
        if layer:
            self.cache = tempfile.TemporaryDirectory()
            self.warp = self.warp.with_hidden_states([*corpus.texts, *corpus.class_names], self.cache.name)
        init = Init.start(self.warp, InnerLoop(inner_steps, GROUPS)).on(backbone)
        self.init = mapped(init, torch.Tensor.requires_grad_)
        sampler = EpisodeSampler(corpus, n_way=5, k_shot=k_shot, n_query=15)
        self.tasks = TaskBatch.encode([sampler[i] for i in range(n_tasks)], self.warp.encoder, device)

    def seconds(self, turn: int = 0) -> float:
        """Seconds per task of one meta-gradient."""
        tasks = self.tasks.task(turn % len(self.tasks)) if self.case.task_by_task else self.tasks
        self._synchronize()
        start = time.perf_counter()
        self.case.compute(self.warp, self.init, tasks, self.inner_steps)
        self._synchronize()
        return (time.perf_counter() - start) / len(tasks)

    def peak(self) -> float | None:
        """Megabytes above the loaded model at the worst moment."""
        return peak_megabytes(self.seconds, self.device)

    def _synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def measure(
    cases: Sequence[str], inner_steps: int, n_tasks: int, k_shot: int, rounds: int, device: str
) -> dict[str, CaseCost]:
    """Median seconds per task and peak megabytes of each case; see `PreparedCase`."""
    setting = (inner_steps, n_tasks, k_shot, device)
    prepared = {name: PreparedCase(name, *setting) for name in cases}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    refused: set[str] = set()
    n_warm_up = int(n_tasks == 1)  # several tasks take so long that they warm up by themselves
    for turn in range(rounds + n_warm_up):
        for name in (name for name in cases if name not in refused):
            try:
                taken = prepared[name].seconds(turn)
            except (MemoryLimitError, torch.OutOfMemoryError):
                refused.add(name)
                continue
            if turn >= n_warm_up:
                seconds[name].append(taken)
    return {
        name: {
            "seconds_per_task": None if name in refused else float(np.median(seconds[name])),
            "peak_megabytes": None if name in refused else peak_in_new_process(name, *setting),
        }
        for name in cases
    }


def peak_in_new_process(name: str, inner_steps: int, n_tasks: int, k_shot: int, device: str) -> float | None:
    """`PreparedCase.peak` in a process that has computed nothing before."""
    setting = json.dumps([name, inner_steps, n_tasks, k_shot, device])
    command = [sys.executable, "-m", "benchmarks.engines", "--peak", setting]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure_lines(rounds: int, device: str) -> Lines:
    """Cost of one 5-way 1-shot task at `LINE_STEPS`, and the lines through it."""
    costs = [measure(LINE_CASES, steps, 1, 1, rounds, device) for steps in LINE_STEPS]
    lines: dict[str, dict[Quantity, Line]] = {}
    for case in LINE_CASES:
        lines[case] = {}
        for quantity in QUANTITIES:
            values = [value for cost in costs if (value := cost[case][quantity]) is not None]
            if len(values) == len(LINE_STEPS):
                lines[case][quantity] = fit_line(LINE_STEPS, values)
                print(case, quantity, lines[case][quantity], flush=True)
    return {"inner_steps": LINE_STEPS, "cases": lines}


def fit_line(steps: Sequence[int], values: Sequence[float]) -> Line:
    """The line through values at several numbers of inner steps, by least squares."""
    slope, intercept = np.polyfit(steps, values, 1)
    error = float(np.abs(intercept + slope * np.array(steps) - values).max() / max(values))
    return {"values": list(values), "intercept": float(intercept), "slope": float(slope), "largest_error": error}


def create_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 15], help="numbers S of inner steps")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4, 16], help="numbers T of tasks per meta-gradient")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="names of the cases")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each case")
    parser.add_argument("--device", default="cpu", help="device of the models")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    parser.add_argument("--lines", action="store_true", help="measure cost against S = 1 … 50 instead")
    parser.add_argument("--quick", action="store_true", help="S = 3, T = 1, one round, fewer cases; writes nothing")
    parser.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, write the JSON file, print the table."""
    parser = create_parser()
    options = parser.parse_args()
    if options.peak:
        peak = None
        with suppress(MemoryLimitError, torch.OutOfMemoryError):
            peak = PreparedCase(*options.peak).peak()
        print(json.dumps(peak))
        return
    results: EngineResults = {"threads": torch.get_num_threads(), "device": options.device}
    if options.output.exists():
        earlier: EngineResults = json.loads(options.output.read_text())
        if earlier["device"] != options.device:
            parser.error(f"{options.output} holds results on {earlier['device']!r}; name another --output")
        results = {**earlier, **results}
    if options.quick:
        costs = measure(QUICK_CASES, 3, 1, K_SHOT, 1, options.device)
        print(f"{setting_name(3, 1)}\n\n{ratio_rows(costs).markdown}")
        return
    if options.lines:
        results["lines"] = measure_lines(options.rounds, options.device)
        write_text(options.output, json.dumps(results, indent=1) + "\n")
        return
    for inner_steps in options.steps:
        for n_tasks in options.tasks:
            name = setting_name(inner_steps, n_tasks)
            costs = measure(options.cases, inner_steps, n_tasks, K_SHOT, options.rounds, options.device)
            settings = results.setdefault("settings", {})
            settings[name] = settings.get(name, {}) | costs  # cases that were not measured now stay
            print(f"\n{name}\n\n{ratio_rows(settings[name]).markdown}", flush=True)
            write_text(options.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
