"""Figures of accuracies: dots with intervals, sorted, with the labels beside the data."""

from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from episodes.paths import user_path
from episodes.writing import write_bytes

DPI = 120
"""Resolution of figures that are files of their own."""

HIGHLIGHT, GRAY = "#c2410c", "#64748b"
"""Colours of our method, and of everything else."""


def plots_available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_accuracies(results: Mapping[str, Mapping[str, Any]], file: str | Path) -> Path:
    """Draw the accuracies of metawarp and other methods with their 95 % intervals into a PNG file.

    `results` are those of `evaluate` by the name of their setting, such as "5-way 1-shot"; each has a panel.
    """
    settings = {setting: result["methods"] for setting, result in results.items()}
    n_methods = len({name for methods in settings.values() for name in methods})
    figure = new_figure(2.2 + 3.2 * len(settings), 1.0 + 0.34 * n_methods)
    dot_panels(figure.subplots(1, len(settings), squeeze=False, sharey=True)[0], settings, "metawarp")
    return save_figure(figure, file)


def dot_panels(panels: Any, settings: Mapping[str, Mapping[str, Any]], highlighted: str) -> None:
    """Draw the "accuracy" and "ci95" of each method, by setting, with the methods in one order and the best at the top.

    The panels share their y axis.
    """
    values: dict[str, list[float]] = {}
    for methods in settings.values():
        for name, scores in methods.items():
            values.setdefault(name, []).append(scores["accuracy"])
    names = sorted(values, key=lambda name: sum(values[name]) / len(values[name]))
    for axes, (setting, methods) in zip(panels, settings.items(), strict=True):
        for place, name in enumerate(names):
            if name in methods:
                accuracy, width = 100 * methods[name]["accuracy"], 100 * methods[name]["ci95"]
                color, weight = (HIGHLIGHT, "bold") if name == highlighted else (GRAY, "normal")
                axes.errorbar(accuracy, place, xerr=width, fmt="o", color=color, capsize=3, markersize=5)
                style = {"textcoords": "offset points", "va": "center", "fontsize": 8, "fontweight": weight}
                axes.annotate(f"{accuracy:.1f}", (accuracy + width, place), (5, 0), color=color, **style)
        axes.set_title(setting, loc="left", fontsize=10)
        axes.set_xlabel("accuracy (%)")
        axes.margins(x=0.14)
        plain_axes(axes)
    panels[0].set_yticks(range(len(names)), names)
    for label in panels[0].get_yticklabels():
        if label.get_text() == highlighted:
            label.set(color=HIGHLIGHT, fontweight="bold")


def save_figure(figure: Any, file: str | Path) -> Path:
    """Write a figure into a PNG file, whole or not at all; returns its path."""
    path, image = user_path(file), BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    write_bytes(path, image.getvalue())
    return path


def plain_axes(axes: Any) -> None:
    """Remove frame lines, and draw a light vertical grid."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)


def new_figure(width: float, height: float) -> Any:
    """An empty figure, width and height in inches. It is made without pyplot, whose state belongs to the caller."""
    if not plots_available():
        raise ImportError('Figures need an extra: pip install "metawarp[plots]"')
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
