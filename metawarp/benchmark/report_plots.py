"""Pictures of a benchmark's tables, by name; each takes a table of results.json and draws on one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from metawarp.evaluation.plots import figure_of, grouped_bars

Results = Mapping[str, Any]
"""One table: "title", and by corpus and setting what each contender reached."""


def bars(table: Results) -> Any:
    """Accuracy with its interval, a group of bars for each setting, a panel for each corpus."""
    corpora = table["corpora"]
    figure = _panels(corpora)
    for axes, (corpus, settings) in zip(_row(figure, len(corpora)), corpora.items(), strict=True):
        grouped_bars(axes, {at: setting["contenders"] for at, setting in settings.items()})
        lows = [found["accuracy"] for s in settings.values() for found in s["contenders"].values()]
        axes.set_ylim(max(0, 100 * min(lows) - 10), 100)
        axes.set_title(corpus)
    return _with_legend(figure, "accuracy (%), 95 % interval")


def lines(table: Results) -> Any:
    """Accuracy over the settings, in their order, a line for each contender."""
    corpora = table["corpora"]
    figure = _panels(corpora)
    for axes, (corpus, settings) in zip(_row(figure, len(corpora)), corpora.items(), strict=True):
        for place, name in enumerate(contenders_of(settings)):
            held = [(i, s["contenders"][name]) for i, s in enumerate(settings.values()) if name in s["contenders"]]
            _line(axes, [i for i, _ in held], [found for _, found in held], name, f"C{place}")
        axes.set_xticks(range(len(settings)), list(settings), fontsize=8)
        axes.set_title(corpus)
    return _with_legend(figure, "accuracy (%), 95 % interval")


def curve(table: Results) -> Any:
    """Accuracy over the number of meta-training classes, a line for each number of texts; the others lie across."""
    corpora = table["corpora"]
    columns = max(map(len, corpora.values()))
    figure = figure_of(4.0 * columns, 3.4 * len(corpora) + 0.8)
    grid = figure.subplots(len(corpora), columns, squeeze=False)
    for row, (corpus, settings) in zip(grid, corpora.items(), strict=True):
        for axes, (at, setting) in zip(row, settings.items(), strict=True):
            found = setting["contenders"]
            cut = [held for held in found.values() if "classes" in held]
            classes = sorted({held["classes"] for held in cut})
            for place, texts in enumerate(dict.fromkeys(held.get("texts") for held in cut)):
                of_texts = [held for held in cut if held.get("texts") == texts]
                places = [classes.index(held["classes"]) for held in of_texts]
                _line(axes, places, of_texts, f"{texts or 'all'} texts a class", f"C{place}")
            for place, name in enumerate(name for name, held in found.items() if "classes" not in held):
                axes.axhline(100 * found[name]["accuracy"], label=name, color=f"C{place + 5}", linestyle="--")
            axes.set_xticks(range(len(classes)), classes)
            axes.set_title(f"{corpus}, {at}")
    for axes in grid[-1]:
        axes.set_xlabel("meta-training classes", fontsize=9)
    return _with_legend(figure, "accuracy (%), 95 % interval")


def matrix(table: Results) -> Any:
    """Accuracy of each contender on each corpus, in the last setting; rows are contenders."""
    corpora = table["corpora"]
    last = {corpus: list(settings.values())[-1]["contenders"] for corpus, settings in corpora.items()}
    names = list(dict.fromkeys(name for found in last.values() for name in found))
    values = np.array(
        [[100 * found[n]["accuracy"] if n in found else np.nan for found in last.values()] for n in names]
    )
    figure = figure_of(5 + 1.3 * len(corpora), 1.5 + 0.45 * len(names))
    axes = figure.subplots()
    behind = values - np.nanmax(values, axis=0)
    axes.imshow(
        behind, aspect="auto", cmap="Greens", vmax=-0.8 * min(-1.0, np.nanmin(behind))
    )  # black text stays legible
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, "–" if np.isnan(value) else f"{value:.1f}", ha="center", va="center")
    axes.set_xticks(range(len(corpora)), list(corpora))
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"accuracy (%), {list(next(iter(corpora.values())))[-1]}")
    return figure


def reliability(table: Results) -> Any:
    """How often predictions of each confidence are right, where contenders have probabilities; last setting."""
    corpora = table["corpora"]
    figure = _panels(corpora)
    for axes, (corpus, settings) in zip(_row(figure, len(corpora)), corpora.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.8")
        for name, found in list(settings.values())[-1]["contenders"].items():
            if "reliability" in found:
                enough = sum(b["number"] for b in found["reliability"]) / 100  # a bin of fewer shows noise
                held = [b for b in found["reliability"] if b["number"] >= enough]
                label = f"{name} (ECE {100 * found['calibration_error']:.1f} %)"
                axes.plot([b["confidence"] for b in held], [b["accuracy"] for b in held], marker=".", label=label)
        axes.set(xlabel="confidence", title=corpus)
        axes.legend(fontsize=7)
    figure.supylabel("accuracy")
    return figure


def confusion(table: Results) -> Any:
    """Which classes the first contender takes for which: first corpus, last setting; a row is a true class."""
    corpus, settings = next(iter(table["corpora"].items()))
    setting, found = list(settings.items())[-1]
    name, held = next(iter(found["contenders"].items()))
    counts = np.array(held["confusion"], dtype=float)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    figure = figure_of(9, 8)
    axes = figure.subplots()
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, label="% of the true class")
    axes.set_xticks(range(len(counts)), held["class_names"], rotation=90, fontsize=7)
    axes.set_yticks(range(len(counts)), held["class_names"], fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=f"{name} on {corpus}, {setting}")
    return figure


def cost(table: Results) -> Any:
    """Accuracy against the seconds that one task takes, adaptation and predictions together; last setting."""
    corpora = table["corpora"]
    figure = _panels(corpora)
    for axes, (corpus, settings) in zip(_row(figure, len(corpora)), corpora.items(), strict=True):
        for name, found in list(settings.values())[-1]["contenders"].items():
            accuracy, spread = 100 * found["accuracy"], 100 * found["ci95"]
            axes.errorbar(found["seconds_a_task"], accuracy, spread, marker="o", linestyle="", label=name)
        axes.set(xscale="log", xlabel="seconds a task, one core", title=corpus)
    return _with_legend(figure, "accuracy (%), 95 % interval")


PLOTS: dict[str, Callable[[Results], Any]] = {
    "bars": bars,
    "lines": lines,
    "curve": curve,
    "matrix": matrix,
    "reliability": reliability,
    "confusion": confusion,
    "cost": cost,
}


def contenders_of(settings: Mapping[str, Any]) -> list[str]:
    """Contenders of any setting, in their order."""
    return list(dict.fromkeys(name for setting in settings.values() for name in setting["contenders"]))


def _panels(corpora: Mapping[str, Any]) -> Any:
    return figure_of(max(7.0, 4.2 * len(corpora)), 4.3)


def _row(figure: Any, number: int) -> list[Any]:
    return list(figure.subplots(1, number, squeeze=False)[0])


def _line(axes: Any, places: Sequence[int], held: Sequence[Mapping[str, Any]], label: str, color: str) -> None:
    """Accuracies at some places, with their intervals."""
    means, spread = (np.array([100 * found[of] for found in held]) for of in ("accuracy", "ci95"))
    axes.plot(places, means, marker="o", label=label, color=color)
    axes.fill_between(places, means - spread, means + spread, color=color, alpha=0.15)


def _with_legend(figure: Any, label: str) -> Any:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=int(figure.get_figwidth() // 2), fontsize=8)
    figure.supylabel(label, fontsize=9)
    return figure
