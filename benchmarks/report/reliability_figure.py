"""Reliability diagrams: how accurate predictions of each confidence are."""

from typing import TYPE_CHECKING

from benchmarks.report.side_labels import color_of
from benchmarks.runner.results_format import ContenderResults, TableResults, contender_names, last_setting
from metawarp.evaluation.plots import new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST_SHARE = 0.01
"""Share of all predictions below which a bin is left out, because it shows noise."""


def reliability(table: TableResults) -> "Figure":
    """A diagram for each contender with probabilities, in the last setting; a row for each corpus."""
    rows = {}
    for corpus, settings in table["corpora"].items():
        _, contenders = last_setting(settings)
        rows[corpus] = {name: one for name, one in contenders.items() if "reliability" in one}
    columns = max(map(len, rows.values()))
    figure: Figure = new_figure(2.3 * columns, 2.6 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    for panels, (corpus, contenders) in zip(grid, rows.items(), strict=True):
        settings = table["corpora"][corpus]
        for axes, (name, contender) in zip(panels, contenders.items(), strict=False):
            _draw(axes, name, contender, highlighted=name == contender_names(settings)[0])
        for unused in panels[len(contenders) :]:
            unused.set_axis_off()
        panels[0].set_ylabel(f"{corpus}, {last_setting(settings)[0]}\naccuracy", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("confidence", fontsize=9)
    return figure


def _draw(axes: "Axes", name: str, contender: ContenderResults, *, highlighted: bool) -> None:
    bins = contender.get("reliability", [])
    smallest = SMALLEST_SHARE * sum(b["number"] for b in bins)
    kept = [b for b in bins if b["number"] >= smallest]
    color = color_of(highlighted)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axes.plot([b["confidence"] for b in kept], [b["accuracy"] for b in kept], color=color, marker="o", markersize=3)
    axes.set_title(name, loc="left", fontsize=9, color=color, fontweight="bold" if highlighted else "normal")
    error = 100 * (contender["calibration_error"] or 0.0)
    style = {"transform": axes.transAxes, "ha": "right", "fontsize": 7}
    axes.text(0.99, 0.04, f"calibration error {error:.1f} %", **style)
    axes.set_aspect("equal")
    plain_axes(axes)
