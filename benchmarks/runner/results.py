"""The results of a benchmark: the numbers of every contender, and its differences to one of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.runner.cell import cells_of
from benchmarks.runner.corpora import load_corpus
from benchmarks.runner.keys import cell_key
from benchmarks.runner.plan import Plan, Table
from benchmarks.runner.reliability import merged_bins
from benchmarks.runner.results_format import (
    BenchmarkResults,
    CellResults,
    ContenderResults,
    PairedDifference,
    SettingResults,
    TableResults,
)
from metawarp.evaluation.evaluate import versions
from metawarp.evaluation.scores import INTERVAL, interval, paired_differences
from metawarp.training.config import RECIPE

Cost = Literal["seconds_per_task", "peak_megabytes", "numbers_per_task", "numbers_of_init", "training_seconds_per_task"]

COSTS: tuple[Cost, ...] = get_args(Cost)
"""Numbers of a contender that say what it costs."""


def cell_file(folder: Path, key: str) -> Path:
    """The file with the numbers of a cell."""
    return folder / "cells" / f"{key}.json"


def collect_results(plan: Plan, names: Sequence[str], data: Path, folder: Path) -> BenchmarkResults:
    """The results of the named tables, all cells of which are measured.

    Args:
        plan: the plan.
        names: names of tables.
        data: folder of the corpora.
        folder: output folder of the benchmark.
    """
    tables = {name: _table_results(plan.tables[name], data, folder) for name in names}
    corpora = {}
    for name in dict.fromkeys(name for table in tables.values() for name in table["corpora"]):
        corpus, split = load_corpus(name, data)
        corpora[name] = {"fingerprint": corpus.fingerprint, "test_classes": list(split.test.class_names)}
    protocol: dict[str, object] = {
        "search": plan.search,
        "recipe": RECIPE,
        "interval": INTERVAL,
        "corpora": corpora,
        "versions": versions(),
    }
    return {"protocol": protocol, "tables": tables}


def _table_results(table: Table, data: Path, folder: Path) -> TableResults:
    trainings: dict[tuple[str, str], dict[str, list[CellResults]]] = {}
    for cell in cells_of(table):
        content = json.loads(cell_file(folder, cell_key(cell, data)).read_text(encoding="utf-8"))
        contenders = trainings.setdefault((cell.corpus, cell.setting_name), {})
        contenders.setdefault(cell.contender_name, []).append(content)
    corpora: dict[str, dict[str, SettingResults]] = {}
    for (corpus, setting), contenders in trainings.items():
        results = {name: _contender_results(cells) for name, cells in contenders.items()}
        for name in results:
            results[name].update(table.contenders[name].reduction)  # pyright: ignore[reportArgumentType, reportCallIssue]
        baselines = [name for name in results if table.contenders[name].baseline is not None]
        best = max(baselines, key=lambda name: results[name]["accuracy"], default=None)
        reference = table.compare_with or best
        corpora.setdefault(corpus, {})[setting] = {
            "contenders": results,
            "best_baseline": best,
            "compared_with": reference,
            "paired": _differences(contenders, reference),
        }
    settings = {name: asdict(setting) for name, setting in table.settings.items()}
    return {"title": table.title, "plots": list(table.plots), "settings": settings, "corpora": corpora}


def _contender_results(cells: Sequence[CellResults]) -> ContenderResults:
    accuracies = np.array([cell["accuracy"] for cell in cells])
    accuracy = accuracies.mean(0)
    errors = [cell["calibration_error"] for cell in cells if "calibration_error" in cell]
    results: ContenderResults = {
        "accuracy": float(accuracy.mean()),
        "ci95": interval(accuracy),
        "macro_f1": float(np.mean([cell["macro_f1"] for cell in cells])),
        "by_training": accuracies.mean(1).tolist(),
        "calibration_error": float(np.mean(errors)) if errors else None,
        "classes_seen_in_training": sorted({name for cell in cells for name in cell["classes_seen_in_training"]}),
        "init_sha256": [cell["init_sha256"] for cell in cells],
        "class_names": cells[0]["class_names"],
        "confusion": np.sum([cell["confusion"] for cell in cells], axis=0).tolist(),
        "per_episode": _rounded(accuracy),
        "per_episode_by_training": [_rounded(values) for values in accuracies],
        "macro_f1_per_episode": [_rounded(cell["macro_f1"]) for cell in cells],
    }
    for cost in COSTS:
        values = [value for cell in cells if (value := cell.get(cost)) is not None]
        if values:
            results[cost] = float(np.mean(values))
    if "chosen_on_validation_classes" in cells[0]:
        results["chosen_on_validation_classes"] = cells[0]["chosen_on_validation_classes"]
    bins = [cell["reliability"] for cell in cells if "reliability" in cell]
    if bins:
        results["reliability"] = merged_bins(bins)
    return results


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def _differences(contenders: Mapping[str, Sequence[CellResults]], reference: str | None) -> dict[str, PairedDifference]:
    """Paired differences of all other contenders to one of them, corrected for their number."""
    if reference is None:
        return {}
    accuracies = {name: np.mean([cell["accuracy"] for cell in cells], axis=0) for name, cells in contenders.items()}
    differences: Any = paired_differences(
        {name: values - accuracies[reference] for name, values in accuracies.items() if name != reference}
    )
    return differences
