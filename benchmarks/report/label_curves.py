"""Accuracy over the number of labels, as `benchmarks.suggestions` records it; a table and a figure of it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes.writing import write_text
from metawarp.evaluation.plots import new_figure, plain_axes

FILE = RESULTS / "labels.json"

BUDGETS = (0, 1, 2, 5, 10)
"""Numbers of labels, in units of the number C of classes."""

REFERENCE = 5
"""The budget at which random choice sets the accuracy that the others have to reach."""

RANDOM, SETFIT, SUGGEST, REST = "random", "random, SetFit", "suggest", "suggest + rest"

SHOWN = {
    SETFIT: "SetFit, random choice of texts",
    RANDOM: "metawarp, random choice of texts",
    SUGGEST: "metawarp, suggested texts",
    REST: "metawarp, suggested texts and the unlabelled rest",
}
"""Lines of the figure, by strategy."""


@dataclass(frozen=True)
class LabelCurve:
    """The accuracy (5,) in percent at each of the `BUDGETS`, the mean over some pools; NaN where there is none."""

    corpus: str
    n_classes: int
    strategy: str
    accuracies: tuple[float, ...]
    n_pools: int

    @property
    def area(self) -> float:
        """Mean accuracy between the first and the last number of labels, over their logarithm."""
        logarithms = np.log(BUDGETS[1:])
        return float(np.trapezoid(self.accuracies[1:], logarithms) / (logarithms[-1] - logarithms[0]))

    def labels_needed(self, accuracy: float) -> float:
        """Smallest number of labels, in units of C, that reaches an accuracy, by linear interpolation; infinite if none
        does."""
        if self.accuracies[0] >= accuracy:
            return 0.0
        for place in range(1, len(BUDGETS)):
            below, above = self.accuracies[place - 1 : place + 1]
            if above >= accuracy:
                share = 1.0 if math.isnan(below) else (accuracy - below) / (above - below)
                return BUDGETS[place - 1] + share * (BUDGETS[place] - BUDGETS[place - 1])
        return math.inf


def recorded() -> list[LabelCurve]:
    """The curves of the documentation."""
    return [LabelCurve(**row) for row in json.loads(FILE.read_text(encoding="utf-8"))] if FILE.exists() else []


def keep(curve: LabelCurve) -> None:
    """Keep a curve for the documentation, in place of that of the same corpus and strategy."""
    name = curve.corpus, curve.strategy
    rows = [*(one for one in recorded() if (one.corpus, one.strategy) != name), curve]
    write_text(FILE, json.dumps([asdict(one) for one in rows], indent=1) + "\n")


def label_rows(curves: Sequence[LabelCurve]) -> Rows:
    """A row for each corpus and strategy."""
    reached = {one.corpus: one.accuracies[BUDGETS.index(REFERENCE)] for one in curves if one.strategy == RANDOM}
    header = ["corpus (classes)", "strategy", "0", *(f"{budget} C" for budget in BUDGETS[1:]), "area"]
    rows = []
    for one in sorted(curves, key=lambda curve: curve.corpus):
        figures = ["–" if math.isnan(value) else f"{value:.1f}" for value in (*one.accuracies, one.area)]
        needed = one.labels_needed(reached[one.corpus]) if one.corpus in reached else math.nan
        rows.append([f"{one.corpus} ({one.n_classes})", one.strategy, *figures, _labels(needed)])
    return Rows([*header, f"labels for random's {REFERENCE} C"], rows)


def _labels(needed: float) -> str:
    if math.isnan(needed):
        return "–"
    return f"{needed:.1f} C" if math.isfinite(needed) else f"more than {BUDGETS[-1]} C"


def over_labels(curves: Sequence[LabelCurve], corpora: Sequence[str] = ("huffpost", "trec")) -> Any:
    """A figure of the accuracy over the number of labels: a panel for each corpus, a line for each strategy in
    `SHOWN`."""
    figure = new_figure(10, 4)
    panels = figure.subplots(1, len(corpora), squeeze=False)[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        own = {one.strategy: one for one in curves if one.corpus == corpus}
        for number, (strategy, label) in enumerate(SHOWN.items()):
            if strategy in own:
                labels = np.array(BUDGETS) * own[strategy].n_classes
                axes.plot(labels, own[strategy].accuracies, marker="o", label=label, color=f"C{number}")
        axes.set_title(corpus, loc="left", fontsize=10)
        axes.set_xlabel("number of labels")
        axes.set_ylabel("accuracy in percent")
        plain_axes(axes)
    panels[-1].legend(frameon=False, fontsize=8)
    return figure
