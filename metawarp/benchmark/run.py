"""A whole benchmark: every training and cell of a plan, in parallel processes, then the results as one file."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from tqdm import tqdm

from episodes import InputError
from episodes.errors import listing
from metawarp import outputs
from metawarp.benchmark.cells import measure, sampler_of, train_for
from metawarp.benchmark.keys import cell_key, load, needs_training, reader_key, training_key
from metawarp.benchmark.plan import Cell, cells_of
from metawarp.benchmark.plan_file import read_plan
from metawarp.benchmark.report import html_report, markdown_report
from metawarp.benchmark.report_plots import PLOTS
from metawarp.benchmark.results import CELLS, cell_file, results_of

logger = logging.getLogger(__name__)

TRAININGS, RESULTS, REPORT, KIND = "trainings", "results.json", "report", "benchmark"


def benchmark(
    plan: str, output: str, *, data: str = ".", tables: Sequence[str] = (), workers: int = 1
) -> dict[str, Any]:
    """Measure what is missing of a plan; the arguments are those of `metawarp benchmark`.

    Args:
        plan: YAML file of tables (see `read_plan`).
        output: folder for trainings, cells, results.json, report.md and report.html. What is in it already is not
            measured again, whichever plan it was measured for.
        data: folder that holds the corpora, each as a folder with data.jsonl and splits.json.
        tables: names of those wanted; none: all.
        workers: processes, of one thread each; 1: this one, with all of its threads.

    Returns:
        What results.json holds: the "protocol", and in "tables", by table, corpus, setting and contender, accuracies
        with their intervals, of every episode too, and paired differences to the best baseline.

    Raises:
        InputError: the plan or a corpus cannot be used; the folder holds results of something else; a worker was
            killed.
    """
    if workers < 1:
        raise InputError(f"workers are {workers}; there must be one at least.")
    found = read_plan(plan)
    if unknown := [name for name in tables if name not in found.tables]:
        raise InputError(f"the plan has no tables {listing(unknown)}; it has {listing(found.tables)}.")
    for name, table in found.tables.items():
        if wrong := [plot for plot in table.plots if plot not in PLOTS]:
            raise InputError(f"table {name!r} asks for unknown plots {listing(wrong)}; known: {listing(PLOTS)}.")
    wanted = [name for name in found.tables if not tables or name in tables]
    folder = Path(output)
    cells = {cell_key(cell, data): cell for name in wanted for *_, cell in cells_of(found.tables[name])}
    for table in (found.tables[name] for name in wanted):
        for corpus, setting in product(table.corpora, table.settings.values()):
            sampler_of(load(corpus, data)[1].test, setting)  # refuses what no episode can be drawn for, now
    trainings = {training_key(cell, data): cell for cell in cells.values() if needs_training(cell)}
    outputs.claim_folder(folder, [RESULTS, f"{REPORT}.md", f"{REPORT}.html"], kind=KIND, overwrite=True)
    outputs.mark(folder, KIND)
    (folder / CELLS).mkdir(exist_ok=True)
    todo = [key for key in cells if not cell_file(folder, key).exists()]
    missing = {key: c for key, c in trainings.items() if not (folder / TRAININGS / key / "init.safetensors").exists()}
    logger.info("%d trainings and %d cells are to be done", len(missing), len(todo))
    trained = folder / TRAININGS
    _each(train_for, [(cell, data, trained) for cell in missing.values()], workers, "trainings")
    groups: dict[str, dict[Path, Cell]] = {}  # what reads the same texts in the same way: one process reads each once
    for key in todo:
        groups.setdefault(reader_key(cells[key], data), {})[cell_file(folder, key)] = cells[key]
    _each(measure, [(group, data, trained) for group in groups.values()], workers, "readers")
    results = results_of(found, wanted, data, folder)
    outputs.write_text(folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    outputs.write_text(folder / f"{REPORT}.md", markdown_report(results))
    outputs.write_text(folder / f"{REPORT}.html", html_report(results, f"metawarp: {Path(plan).stem}"))
    return results


def _each(work: Callable[..., object], jobs: Sequence[tuple], workers: int, label: str) -> None:
    """Do independent jobs in processes of their own; with one worker, here."""
    if workers == 1:
        for job in tqdm(jobs, desc=label, mininterval=_between_signs_of_life()):
            work(*job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        running = [pool.submit(work, *job) for job in jobs]
        try:
            for done in tqdm(as_completed(running), total=len(jobs), desc=label, mininterval=_between_signs_of_life()):
                done.result()
        except BrokenProcessPool as error:
            raise InputError(
                f"one of {workers} processes was killed, most likely for want of memory; what was measured is kept: "
                "go on with fewer workers."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run finish and leave their files
            raise


def _between_signs_of_life() -> float:
    # Seconds. A run of hours is told of in a file too, where nothing is drawn over.
    return 0.1 if sys.stderr.isatty() else 60.0


def _begin_worker() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's processes outlive one that is killed, and would train into the folders that the next run trains into.
    if parent := parent_process():
        parent.join()
        os._exit(1)
