"""The figures of a benchmark's tables by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.report.accuracy_figures import dots, lines, matrix
from benchmarks.report.class_number_figure import curve
from benchmarks.report.confusion_figure import confusion
from benchmarks.report.cost_figure import cost
from benchmarks.report.reliability_figure import reliability
from benchmarks.runner.plan import PlotName
from benchmarks.runner.results_format import TableResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS: dict[PlotName, Callable[[TableResults], "Figure"]] = {
    "dots": dots,
    "lines": lines,
    "curve": curve,
    "matrix": matrix,
    "reliability": reliability,
    "confusion": confusion,
    "cost": cost,
}
"""Each draws the results of one table. The first contender of the table is emphasized."""
