"""Accuracy, calibration and seconds of single fits, as `benchmarks.fits` records them; a table and a figure of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import sem, t as student

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes.writing import write_text
from metawarp.evaluation.plots import new_figure, plain_axes

FILE = RESULTS / "fits.json"

MINILM, MPNET = "minilm", "all-mpnet-base-v2"
"""The backbones of the results, as the last parts of their names."""


@dataclass(frozen=True)
class Measured:
    """What a method reaches on D draws of k texts per class: accuracies and calibration errors in percent, seconds.
    `backbone` is the last part of its name or folder."""

    corpus: str
    k_shot: int
    method: str
    accuracies: tuple[float, ...]
    calibration_errors: tuple[float, ...]
    seconds: tuple[float, ...]
    backbone: str = MINILM

    def __post_init__(self) -> None:
        for name in ("accuracies", "calibration_errors", "seconds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists

    @property
    def cell(self) -> tuple[str, str, int]:
        """What was measured, whatever the method."""
        return self.backbone, self.corpus, self.k_shot


def recorded(backbone: str = MINILM) -> list[Measured]:
    """The results of the documentation, of one backbone."""
    return [one for one in _all_recorded() if one.backbone == backbone]


def _all_recorded() -> list[Measured]:
    return [Measured(**row) for row in json.loads(FILE.read_text(encoding="utf-8"))] if FILE.exists() else []


def keep(measured: Measured) -> None:
    """Keep a result for the documentation, in place of the same method's for the same cell."""
    kept = [one for one in _all_recorded() if (one.cell, one.method) != (measured.cell, measured.method)]
    rows = sorted([*kept, measured], key=lambda one: (one.cell, one.method))
    write_text(FILE, json.dumps([asdict(one) for one in rows], indent=1) + "\n")


def fits_rows(results: Sequence[Measured]) -> Rows:
    """A row for each corpus and number of texts: accuracy and seconds of each method, and the paired difference of the
    init `adaptive` to SetFit with its 95 % interval. A method with fewer draws than the others says so."""
    methods = sorted({one.method for one in results})
    rows = []
    for cell in dict.fromkeys(one.cell for one in results):
        own = {one.method: one for one in results if one.cell == cell}
        draws = max(len(one.accuracies) for one in own.values())
        values = [_in_cell(own[method], draws) if method in own else "" for method in methods]
        pair = [own[method].accuracies for method in ("adaptive", "setfit") if method in own]
        rows.append([cell[1], str(cell[2]), *values, difference(*pair) if len(pair) == 2 else ""])
    header = ["corpus", "texts per class", *methods, "adaptive − setfit"]
    width = len(header) if "setfit" in methods else len(header) - 1
    return Rows(header[:width], [row[:width] for row in rows])


def _in_cell(one: Measured, draws: int) -> str:
    fewer = f", {len(one.accuracies)} of {draws} draws" * (len(one.accuracies) < draws)
    return f"{mean(one.accuracies)} ({mean(one.seconds)} s{fewer})"


def over_seconds(results: Sequence[Measured], corpus: str = "trec") -> Any:
    """A figure of the mean accuracy on a corpus over the seconds of a fit: a line for each method that was measured
    with several numbers of texts per class, and a point for each of these."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    own = sorted((one for one in results if one.corpus == corpus), key=lambda one: one.k_shot)
    for method in dict.fromkeys(one.method for one in own):
        points = [(np.mean(one.seconds), np.mean(one.accuracies), one.k_shot) for one in own if one.method == method]
        if len(points) > 1:
            seconds, accuracies, _ = zip(*points, strict=True)
            axes.plot(seconds, accuracies, marker="o", label=method)
            for *place, k_shot in points:
                axes.annotate(str(k_shot), place, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of a fit; the numbers are texts per class")
    axes.set_ylabel("accuracy in percent")
    axes.legend(frameon=False)
    plain_axes(axes)
    return figure


def mean(values: Sequence[float]) -> str:
    """The mean with one decimal."""
    return f"{np.mean(values):.1f}"


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean of the paired differences, and its 95 % interval (Student's t). If one method has fewer draws than the
    other, those that both have are compared: they are the first ones."""
    draws = min(len(values), len(others))
    gains = np.subtract(values[:draws], others[:draws])
    if draws == 1:
        return f"{gains[0]:+.1f}"
    return f"{gains.mean():+.1f} ± {student.ppf(0.975, draws - 1) * sem(gains):.1f}"
