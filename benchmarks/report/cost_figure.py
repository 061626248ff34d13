"""Accuracy against cost."""

from typing import TYPE_CHECKING

from benchmarks.report.accuracy_figures import panels_in_row
from benchmarks.report.side_labels import Label, color_of, label_right
from benchmarks.runner.results_format import TableResults, contender_names, last_setting
from metawarp.evaluation.plots import new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cost(table: TableResults) -> "Figure":
    """Accuracy against the seconds of one task (adaptation and prediction) in the last setting; a panel per corpus."""
    from matplotlib.ticker import LogLocator, NullLocator

    corpora = table["corpora"]
    figure: Figure = new_figure(6.5 * len(corpora), 3.8)
    for axes, (corpus, settings) in zip(panels_in_row(figure, len(corpora)), corpora.items(), strict=True):
        setting, contenders = last_setting(settings)
        first, labels = contender_names(settings)[0], []
        for name, contender in contenders.items():
            accuracy, seconds = 100 * contender["accuracy"], contender.get("seconds_per_task", 0.0)
            axes.errorbar(seconds, accuracy, 100 * contender["ci95"], fmt="o", color=color_of(name == first), capsize=3)
            labels.append(Label(seconds, accuracy, name, name == first))
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=range(1, 10) if high < 10 * low else (1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("seconds per task on one core")
        axes.set_title(f"{corpus}, {setting}: accuracy (%)", loc="left", fontsize=10)
        plain_axes(axes)
        axes.grid(axis="both", color="0.92")
        label_right(axes, labels)
    return figure
