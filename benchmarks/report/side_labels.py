"""Labels beside the data, in the place of a legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metawarp.evaluation.plots import GRAY, HIGHLIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 8
LINE_HEIGHT = 1.5
"""Distance of two labels, relative to the font size."""


class Label(NamedTuple):
    """A label of a point (x, y) in data coordinates."""

    x: float
    y: float
    text: str
    highlighted: bool


def color_of(highlighted: bool) -> str:
    """The colour of a contender: the accent for the emphasized one, grey for all others."""
    return HIGHLIGHT if highlighted else GRAY


def label_right(axes: "Axes", labels: Sequence[Label]) -> None:
    """Write labels to the right of the axes, at the height of their points, with thin lines to points further left.

    Labels that would overlap move apart.
    """
    low, high = axes.get_ylim()
    points_per_unit = axes.bbox.height / axes.figure.dpi * 72 / (high - low)
    ordered = sorted(labels, key=lambda label: (label.y, label.x))  # of points at one height, lines do not cross
    heights = spread([label.y for label in ordered], LINE_HEIGHT * FONT_SIZE / points_per_unit)
    right_end = axes.get_xlim()[1]
    for label, height in zip(ordered, heights, strict=True):
        color = color_of(label.highlighted)
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.03, (height - low) / (high - low)),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT_SIZE,
            color=color,
            fontweight="bold" if label.highlighted else "normal",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.6, "shrinkB": 3},
            annotation_clip=False,
        )
    axes.set_xlim(right=right_end)


def spread(heights: Sequence[float], distance: float) -> list[float]:
    """Ascending heights, moved as little as possible until neighbours have at least some distance.

    Groups of labels that touch each other are centred at the mean of their heights.
    """
    groups: list[list[float]] = []  # of original heights
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], distance) < _bottom(groups[-2], distance) + distance * len(
            groups[-2]
        ):
            last = groups.pop()
            groups[-1] += last
    return [_bottom(group, distance) + distance * i for group in groups for i in range(len(group))]


def _bottom(group: Sequence[float], distance: float) -> float:
    return float(np.mean(group)) - distance * (len(group) - 1) / 2
