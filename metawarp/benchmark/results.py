"""What results.json holds of a benchmark: every contender's numbers, and how far each is from one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metawarp.benchmark.keys import cell_key, load
from metawarp.benchmark.plan import Plan, Table, cells_of
from metawarp.evaluation.calibration import merged
from metawarp.evaluation.cost import COSTS
from metawarp.evaluation.protocol import versions
from metawarp.evaluation.scores import INTERVAL, interval, paired
from metawarp.training.config import RECIPE

CELLS = "cells"


def cell_file(folder: Path, key: str) -> Path:
    """Where the numbers of a cell are."""
    return folder / CELLS / f"{key}.json"


def results_of(plan: Plan, names: Sequence[str], data: str, folder: Path) -> dict[str, Any]:
    """The tables of these names, whose cells are all there, and the "protocol" that they have in common."""
    tables = {name: _table(plan.tables[name], data, folder) for name in names}
    corpora = {}
    for corpus in dict.fromkeys(corpus for table in tables.values() for corpus in table["corpora"]):
        loaded, split = load(corpus, data)
        corpora[corpus] = {"fingerprint": loaded.fingerprint, "test_classes": list(split.test.class_names)}
    protocol = {
        "search": plan.search,
        "recipe": RECIPE,
        "interval": INTERVAL,
        "corpora": corpora,
        "versions": versions(),
    }
    return {"protocol": protocol, "tables": tables}


def _table(table: Table, data: str, folder: Path) -> dict[str, Any]:
    """By corpus and setting: each contender over its trainings, and how far it is from the one compared with."""
    by_place: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for corpus, setting, contender, cell in cells_of(table):
        content = json.loads(cell_file(folder, cell_key(cell, data)).read_text(encoding="utf-8"))
        by_place.setdefault((corpus, setting), {}).setdefault(contender, []).append(content)
    corpora: dict[str, Any] = {}
    for (corpus, setting), contenders in by_place.items():
        found = {name: {**_over_trainings(cells), **table.contenders[name].cut} for name, cells in contenders.items()}
        baselines = [name for name in found if table.contenders[name].baseline is not None]
        best = max(baselines, key=lambda name: found[name]["accuracy"], default=None)
        reference = table.compare_with or best
        corpora.setdefault(corpus, {})[setting] = {
            "contenders": found,
            "best_baseline": best,
            "compared_with": reference,
            "paired": _differences(found, reference),
        }
    settings = {name: vars(setting) for name, setting in table.settings.items()}
    return {"title": table.title, "plots": list(table.plots), "settings": settings, "corpora": corpora}


def _over_trainings(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One contender's numbers; accuracies are averaged over its trainings, episode by episode."""
    accuracies = np.array([cell["accuracy"] for cell in cells])
    accuracy = accuracies.mean(0)
    errors = [cell["calibration_error"] for cell in cells if "calibration_error" in cell]
    shared = ("chosen_on_validation_classes", "confusion", "class_names")
    numbers = {
        "accuracy": float(accuracy.mean()),
        "ci95": interval(accuracy),
        "macro_f1": float(np.mean([cell["macro_f1"] for cell in cells])),
        "by_training": accuracies.mean(1).tolist(),
        "calibration_error": float(np.mean(errors)) if errors else None,
        "classes_seen_in_training": sorted({name for cell in cells for name in cell["classes_seen_in_training"]}),
        "init_sha256": [cell.get("init_sha256", "") for cell in cells],
        **{name: float(np.mean([cell[name] for cell in cells])) for name in COSTS if cells[0].get(name) is not None},
        **{name: cells[0][name] for name in shared if name in cells[0]},
    }
    if errors:
        numbers["reliability"] = merged(cell["reliability"] for cell in cells)
    numbers["per_episode"] = _rounded(accuracy)
    numbers["per_episode_by_training"] = [_rounded(values) for values in accuracies]
    numbers["macro_f1_per_episode"] = [_rounded(cell["macro_f1"]) for cell in cells]
    return numbers


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def _differences(found: Mapping[str, Any], reference: str | None) -> dict[str, dict[str, float]]:
    """Paired differences of all others to one contender, Holm's correction over them."""
    if reference is None:
        return {}
    others = [name for name in found if name != reference]
    return paired({name: np.subtract(found[name]["per_episode"], found[reference]["per_episode"]) for name in others})
