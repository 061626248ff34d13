"""The reliability diagram of several trainings together."""

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.runner.results_format import Bin
from metawarp.evaluation.calibration import BINS


def merged_bins(diagrams: Iterable[Sequence[Bin]]) -> list[Bin]:
    """The bins of all predictions, from the bins of several sets of predictions."""
    parts_of: dict[int, list[Bin]] = {}
    for part in (part for diagram in diagrams for part in diagram):
        parts_of.setdefault(min(int(part["confidence"] * BINS), BINS - 1), []).append(part)
    merged: list[Bin] = []
    for _, parts in sorted(parts_of.items()):
        numbers = [part["number"] for part in parts]
        confidence = float(np.average([part["confidence"] for part in parts], weights=numbers))
        accuracy = float(np.average([part["accuracy"] for part in parts], weights=numbers))
        merged.append({"number": sum(numbers), "confidence": confidence, "accuracy": accuracy})
    return merged
