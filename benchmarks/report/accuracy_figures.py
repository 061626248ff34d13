"""Figures of accuracies: dots, lines over settings, and a matrix of corpora."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report.side_labels import Label, color_of, label_right
from benchmarks.runner.results_format import ContenderResults, TableResults, contender_names, last_setting
from metawarp.evaluation.plots import HIGHLIGHT, dot_panels, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_ROW = 4

AXIS_LABELS = {"n_way": "classes per episode", "k_shot": "support texts per class", "inner_steps": "inner steps"}
"""Labels of the x axis by the name of the setting."""


def dots(table: TableResults) -> "Figure":
    """Accuracies with their intervals, sorted; one panel for each setting and corpus."""
    rows = [
        (corpus, settings, names[first : first + PANELS_PER_ROW])
        for corpus, settings in table["corpora"].items()
        for names in [list(settings)]
        for first in range(0, len(names), PANELS_PER_ROW)
    ]
    columns = max(len(names) for *_, names in rows)
    n_contenders = max(len(contender_names(settings)) for _, settings, _ in rows)
    figure: Figure = new_figure(2.2 + 2.7 * columns, len(rows) * (0.9 + 0.27 * n_contenders))
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey="row")
    for axes, (corpus, settings, names) in zip(grid, rows, strict=True):
        panels = {f"{corpus}, {name}": settings[name]["contenders"] for name in names}
        dot_panels(axes[: len(names)], panels, contender_names(settings)[0])
        axes[0].margins(y=0.4 / n_contenders)
        for unused in axes[len(names) :]:
            unused.set_axis_off()
    return figure


def lines(table: TableResults) -> "Figure":
    """Accuracy over the settings in their order, a line for each contender; one panel for each corpus."""
    corpora = table["corpora"]
    figure: Figure = new_figure(5.2 * len(corpora), 4)
    for axes, (corpus, settings) in zip(panels_in_row(figure, len(corpora)), corpora.items(), strict=True):
        labels = []
        for number, name in reversed(list(enumerate(contender_names(settings)))):
            results = {
                place: setting["contenders"][name]
                for place, setting in enumerate(settings.values())
                if name in setting["contenders"]
            }
            draw_line(axes, list(results), list(results.values()), highlighted=number == 0)
            last = max(results)
            labels.append(Label(last, 100 * results[last]["accuracy"], name, number == 0))
        axes.set_xticks(range(len(settings)), list(settings))
        axes.set_xlabel(_varied(table))
        axes.set_title(f"{corpus}: accuracy (%)", loc="left", fontsize=10)
        plain_axes(axes)
        axes.grid(axis="both", color="0.92")
        label_right(axes, labels)
    return figure


def _varied(table: TableResults) -> str:
    """What differs between the settings of a table; "" if it is not one of `AXIS_LABELS` alone."""
    settings = table["settings"].values()
    varied = [label for key, label in AXIS_LABELS.items() if len({str(setting[key]) for setting in settings}) > 1]
    return varied[0] if len(varied) == 1 else ""


def matrix(table: TableResults) -> "Figure":
    """Accuracy of each contender (row) on each corpus (column) in the last setting; the best of a column is bold."""
    columns = {corpus: last_setting(settings)[1] for corpus, settings in table["corpora"].items()}
    names = list(dict.fromkeys(name for contenders in columns.values() for name in contenders))
    accuracy = np.array(
        [
            [100 * column[name]["accuracy"] if name in column else np.nan for column in columns.values()]
            for name in names
        ]
    )
    behind = accuracy.round(1) - np.nanmax(accuracy, axis=0).round(1)
    figure: Figure = new_figure(2.6 + 1.2 * len(columns), 0.9 + 0.36 * len(names))
    axes = figure.subplots()
    # The best is white, and others are the darker the further behind they are; black text stays readable on all.
    axes.imshow(behind, aspect="auto", cmap="gray", vmin=-20, vmax=0)
    for (row, column), value in np.ndenumerate(accuracy):
        best = abs(behind[row, column]) < 0.05
        axes.text(
            column,
            row,
            "–" if np.isnan(value) else f"{value:.1f}",
            ha="center",
            va="center",
            color=HIGHLIGHT if best else "black",
            fontweight="bold" if best else "normal",
        )
    axes.set_xticks(range(len(columns)), list(columns))
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    setting = next(iter(map(last_setting, table["corpora"].values())))[0]
    axes.set_title(f"{setting}: accuracy (%) on the test classes of", loc="left", fontsize=10)
    return figure


def panels_in_row(figure: "Figure", number: int) -> "Sequence[Axes]":
    """Axes in one row."""
    return list(figure.subplots(1, number, squeeze=False)[0])


def draw_line(
    axes: "Axes", places: Sequence[float], results: Sequence[ContenderResults], *, highlighted: bool, style: str = "-"
) -> None:
    """Draw accuracies with their intervals at some places of the x axis."""
    accuracy = [100 * one["accuracy"] for one in results]
    width = [100 * one["ci95"] for one in results]
    color = color_of(highlighted)
    axes.errorbar(places, accuracy, width, color=color, linestyle=style, marker="o", markersize=4, capsize=2)
