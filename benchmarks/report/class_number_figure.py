"""Accuracy against the number of meta-training classes and of texts per class."""

from typing import TYPE_CHECKING

from benchmarks.report.accuracy_figures import draw_line
from benchmarks.report.side_labels import Label, label_right
from benchmarks.runner.results_format import TableResults
from metawarp.evaluation.plots import GRAY, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":")
"""Line styles from the largest number of texts to the smallest."""

OFFSET = 0.35
"""Horizontal distance of two lines, in classes."""


def curve(table: TableResults) -> "Figure":
    """Accuracy over the number of classes, a line for each number of texts; one row per corpus, one column per setting.

    Contenders that learn from none of these classes are horizontal lines.
    """
    corpora = table["corpora"]
    columns = max(map(len, corpora.values()))
    figure: Figure = new_figure(4.1 * columns, 3.1 * len(corpora))
    grid = figure.subplots(len(corpora), columns, squeeze=False)
    for row, (corpus, settings) in zip(grid, corpora.items(), strict=True):
        for axes, (name, setting) in zip(row, settings.items(), strict=False):
            contenders = setting["contenders"]
            limited = [one for one in contenders.values() if "classes" in one]
            classes = sorted({one["classes"] for one in limited})
            numbers = sorted({one.get("texts") or 10**9 for one in limited}, reverse=True)
            labels = []
            for place, number in enumerate(numbers):
                results = [one for one in limited if (one.get("texts") or 10**9) == number]
                results.sort(key=lambda one: one["classes"])
                style = STYLES[min(place, len(STYLES) - 1)]
                # A little beside each other, or intervals would hide each other.
                places = [one["classes"] + OFFSET * place for one in results]
                draw_line(axes, places, results, highlighted=place == 0, style=style)
                text = f"{number} texts" if number < 10**9 else "all texts"
                labels.append(Label(places[-1], 100 * results[-1]["accuracy"], text, place == 0))
            for other, results in contenders.items():
                if "classes" not in results:
                    accuracy = 100 * results["accuracy"]
                    axes.axhline(accuracy, color=GRAY, linewidth=0.8)
                    labels.append(Label(classes[-1], accuracy, other, False))
            axes.set_xticks(classes, classes)
            axes.set_title(f"{corpus}, {name}: accuracy (%)", loc="left", fontsize=10)
            plain_axes(axes)
            label_right(axes, labels)
    for axes in grid[-1]:
        axes.set_xlabel("meta-training classes")
    return figure
