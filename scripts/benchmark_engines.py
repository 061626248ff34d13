"""Seconds and memory of one meta-gradient: learn2learn, the ways of metawarp, and the floor, on the same episodes.

    python scripts/benchmark_engines.py             # benchmarks/engines.json, and the table
    python scripts/benchmark_engines.py --quick     # one small setting, under two minutes

Every case takes the meta-gradient of the same T tasks of the bundled corpus (5-way 5-shot, 15 queries) with S inner
steps, in fp32 on the same backbone. Times are medians over rounds in which the cases take turns (A B C A B C …);
memory is the peak above the loaded model, each case in a fresh process. The floor is the plain forward and backward
pass of exactly the tokens that a first-order method has to read, S times the support texts and once the queries and
names, without any padding.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig, learn2learn_engine
from metawarp.adaptation import GROUPS, InnerLoop, start
from metawarp.backbone import twice_differentiable
from metawarp.meta_gradients import METHODS, fomaml, maml, reptile
from metawarp.storage import write_text
from metawarp.tasks import LabelledTexts, TaskBatch
from metawarp.warp import State

PEER = "learn2learn, whole model"
FILE = Path("benchmarks/engines.json")


class WholeModel(nn.Module):
    """Backbone, prompt and rows of one task in a module, every weight a parameter: how people write MAML."""

    def __init__(self, warp: Warp, current: State) -> None:
        super().__init__()
        self.warp, self.scale, self.mix = warp, current["scale"].detach(), current["read_out_mix"].detach()
        self.model = copy.deepcopy(warp.backbone.model).requires_grad_()
        self.prompt, self.rows = (nn.Parameter(current[name][0].detach()) for name in GROUPS)

    def forward(self, texts: LabelledTexts) -> Tensor:
        """Mean cross-entropy of one task's texts."""
        assert texts.batch is not None
        warp = copy.copy(self.warp)
        warp.backbone = replace(self.warp.backbone, model=self.model)  # learn2learn's clone of it, not the first one
        features = warp.features(self.prompt[None], self.mix, texts.batch, texts.task)
        return cross_entropy(warp.logits(features, self.rows, self.scale), texts.label)


def whole_model(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
    """Second-order MAML by learn2learn, task by task."""
    for task in map(tasks.task, range(len(tasks))):
        module = WholeModel(warp, start(warp, state, task)[0])
        unread = [name for name, _ in module.model.named_parameters() if "pooler" in name or "word_emb" in name]
        for name in unread:
            module.model.get_parameter(name).requires_grad_(False)
        learner = learn2learn_engine.algorithms().MAML(module, lr=0.1, allow_nograd=True)
        with twice_differentiable(True):
            clone = learner.clone()
            for _ in range(steps):
                clone.adapt(clone(task.support))
            clone(task.query).backward()


def floor(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
    """Forward and backward passes of the tokens alone, texts of one length together."""
    for texts, times in ((tasks.names, 1), (tasks.support, max(steps, 1)), (tasks.query, 1)):
        assert texts.batch is not None
        for length in texts.batch.lengths.unique():
            (rows,) = torch.where(texts.batch.lengths == length)
            batch = texts.batch.select(rows)
            for _ in range(times):
                embeddings = warp.backbone.word_embeddings[batch.input_ids].detach().requires_grad_()
                hidden = warp.backbone.hidden_states(embeddings, batch.attention_mask)
                torch.autograd.grad(hidden.sum(), embeddings)


def _ours(gradient: Callable[..., Any], groups: tuple[str, ...] = GROUPS, **settings: Any) -> Callable[..., None]:
    def case(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
        gradient(warp, state, tasks, InnerLoop(steps, groups), **settings)

    return case


CASES: dict[str, Callable[[Warp, State, TaskBatch, int], None]] = {
    PEER: whole_model,
    "learn2learn, prompt": _ours(learn2learn_engine.meta_gradient),
    "unroll": _ours(maml, mode="unroll"),
    "recompute": _ours(maml, mode="recompute"),
    "fomaml": _ours(fomaml),
    "reptile": _ours(reptile),
    "anil": _ours(maml, METHODS["anil"].inner.groups),
    "floor": floor,
}


class Bench:
    """Model, state and tasks of one setting.

    Args:
        steps: inner steps S.
        n_tasks: tasks T.
        device: where it runs.
    """

    def __init__(self, steps: int, n_tasks: int, device: str) -> None:
        transformers.utils.logging.disable_progress_bar()
        self.warp, self.steps, self.device = Warp(Backbone.load("minilm", device=device), WarpConfig()), steps, device
        init = Init.start(self.warp, InnerLoop(steps, GROUPS))
        self.state = {name: tensor.requires_grad_() for name, tensor in init.to(self.warp.backbone).items()}
        corpus = Corpus.load("everyday").split_classes("everyday").train
        sampler = EpisodeSampler(corpus, n_way=5, k_shot=5, n_query=15)
        self.tasks = TaskBatch.encode([sampler[i] for i in range(n_tasks)], self.warp.encoder, device)

    def seconds(self, case: str) -> float:
        """Wall-clock seconds a task."""
        self._wait()
        began = time.perf_counter()
        CASES[case](self.warp, self.state, self.tasks, self.steps)
        self._wait()
        return (time.perf_counter() - began) / len(self.tasks)

    def peak(self, case: str) -> float:
        """Megabytes above the loaded model at the worst moment."""
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.seconds(case)
            return (torch.cuda.max_memory_allocated() - before) / 1e6
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of loading
        before = psutil.Process().memory_info().rss
        self.seconds(case)
        status = Path("/proc/self/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return (peak * 1024 - before) / 1e6

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def measure(cases: list[str], steps: int, n_tasks: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Seconds a task, megabytes, and both as shares of the peer's and of the floor's, by case."""
    bench = Bench(steps, n_tasks, device)
    taken: dict[str, list[float]] = {case: [] for case in cases}
    for turn in range(rounds + 1):  # the first warms up
        for case in cases:
            seconds = bench.seconds(case)
            if turn:
                taken[case].append(seconds)
    found = {case: {"seconds_a_task": float(np.median(values))} for case, values in taken.items()}
    for case, values in found.items():
        command = [sys.executable, __file__, "--peak", case, "--steps", str(steps), "--tasks", str(n_tasks)]
        ended = subprocess.run([*command, "--device", device], capture_output=True, text=True, check=True)
        values["peak_megabytes"] = float(ended.stdout)
        values["time_to_peer"] = values["seconds_a_task"] / found[PEER]["seconds_a_task"] if PEER in found else np.nan
        values["speed_to_floor"] = found["floor"]["seconds_a_task"] / values["seconds_a_task"]
    for values in found.values():
        values["memory_to_peer"] = values["peak_megabytes"] / found[PEER]["peak_megabytes"] if PEER in found else np.nan
    return found


def main() -> None:
    """Measure, write JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 15], help="inner steps S")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4], help="tasks T of one meta-gradient")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--quick", action="store_true", help="S = 5, T = 1, one round; nothing is written")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(Bench(options.steps[0], options.tasks[0], options.device).peak(options.peak))
        return
    if options.quick:
        options.steps, options.tasks, options.rounds = [5], [1], 1
    results = {"threads": torch.get_num_threads(), "device": options.device, "settings": {}}
    for steps in options.steps:
        for n_tasks in options.tasks:
            found = measure(options.cases, steps, n_tasks, options.rounds, options.device)
            results["settings"][f"S = {steps}, T = {n_tasks}"] = found
            print(f"\nS = {steps}, T = {n_tasks}\n{table(found)}", flush=True)
            if not options.quick:
                write_text(options.output, json.dumps(results, indent=1) + "\n")


def table(found: dict[str, dict[str, float]]) -> str:
    """One line a case, for people."""
    lines = [f"{'':<26}{'s / task':>9}{'MB':>8}{'time : peer':>13}{'memory : peer':>15}{'speed : floor':>15}"]
    for case, values in found.items():
        lines.append(
            f"{case:<26}{values['seconds_a_task']:>9.2f}{values['peak_megabytes']:>8.0f}{values['time_to_peer']:>13.2f}"
            f"{values['memory_to_peer']:>15.2f}{values['speed_to_floor']:>15.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
