"""Accuracies with their intervals as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DPI = 120
"""Of pictures that are files of their own."""


def plots_available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_accuracies(results: Mapping[str, Mapping[str, Any]], file: str | Path) -> Path:
    """Draw accuracies with their 95 % intervals as grouped bars.

    Args:
        results: results of `evaluate` by the name of their setting, such as "5-way 1-shot".
        file: the PNG to write.

    Raises:
        ImportError: matplotlib is not installed; the message has the command that installs it.
    """
    figure = figure_of(8, 4)
    axes = figure.subplots()
    grouped_bars(axes, {setting: found["methods"] for setting, found in results.items()})
    axes.set(ylabel="accuracy (%), 95 % interval", ylim=(0, 100))
    axes.legend(loc="lower right", ncols=2, fontsize="small")
    figure.savefig(file, dpi=DPI)
    return Path(file)


def grouped_bars(axes: Any, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """A group of bars for each setting: "accuracy" ± "ci95" of each name in it, in percent."""
    names = list(dict.fromkeys(name for found in settings.values() for name in found))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        shown = [(i, found[name]) for i, found in enumerate(settings.values()) if name in found]
        axes.bar(
            [i + place * width for i, _ in shown],
            [100 * found["accuracy"] for _, found in shown],
            width,
            yerr=[100 * found["ci95"] for _, found in shown],
            label=name,
        )
    slanted = {"rotation": 30, "ha": "right"} if len(settings) > 4 else {}
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(settings))], list(settings), fontsize="small", **slanted)


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches; not of pyplot, whose state is the caller's."""
    if not plots_available():
        raise ImportError('plots are in an extra: pip install "metawarp[plots]"')
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
