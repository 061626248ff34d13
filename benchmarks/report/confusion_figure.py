"""Which classes are taken for which."""

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.runner.results_format import TableResults, last_setting
from metawarp.evaluation.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion(table: TableResults) -> "Figure":
    """Predicted classes (columns) of each true class (row) in percent; first contender, first corpus, last setting."""
    corpus, settings = next(iter(table["corpora"].items()))
    setting, contenders = last_setting(settings)
    name, contender = next(iter(contenders.items()))
    counts = np.array(contender.get("confusion"), dtype=float)
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    class_names = contender.get("class_names", [])
    size = 2.5 + 0.28 * len(class_names)
    figure: Figure = new_figure(size, size)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Oranges", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 5:
            color = "white" if share > 60 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=color)
    axes.set_xticks(range(len(class_names)), class_names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(class_names)), class_names, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{name} on {corpus}, {setting}: % of the true class", loc="left", fontsize=10)
    return figure
