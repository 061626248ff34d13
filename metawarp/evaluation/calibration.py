"""Whether probabilities mean what they say, and the temperature under which they do.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, eq. 3 (expected calibration
    error) and sec. 4.2 (temperature scaling).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from metawarp.adaptation.temperature import Temperature

BINS = 15
LOG_BOUNDS, PULL = (-4.0, 4.0), 1e-3
"""Of a temperature's logarithm; and what a dependence on shots or ways has to be worth."""


def bins_of(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """What happens at each level of confidence: a reliability diagram, without its empty bins.

    Args:
        confidence: (n,) probability of the predicted class, 0 to 1.
        right: (n,) whether it was right.

    Returns:
        For each bin of equal width the number of predictions, their mean "confidence" and their "accuracy".
    """
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [number == i for i in range(BINS) if (number == i).any()]
    return [
        {"number": int(m.sum()), "confidence": float(confidence[m].mean()), "accuracy": float(right[m].mean())}
        for m in members
    ]


def merged(diagrams: Iterable[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """What `bins_of` says of all predictions together, from what it said of some at a time."""
    of_bin: dict[int, list[Mapping[str, float]]] = {}
    for part in (part for diagram in diagrams for part in diagram):
        of_bin.setdefault(min(int(part["confidence"] * BINS), BINS - 1), []).append(part)
    found = []
    for _, parts in sorted(of_bin.items()):
        numbers = [part["number"] for part in parts]
        means = {name: float(np.average([p[name] for p in parts], weights=numbers)) for name in parts[0]}
        found.append({**means, "number": int(sum(numbers))})
    return found


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence|, averaged over predictions by way of `bins_of`."""
    gaps = [b["number"] * abs(b["accuracy"] - b["confidence"]) for b in bins_of(confidence, right)]
    return sum(gaps) / len(confidence)


def best_temperature(
    chances: Sequence[np.ndarray], labels: Sequence[np.ndarray], shots: Sequence[float]
) -> Temperature:
    """The temperature that makes the labels most likely; the predicted classes stay.

    Args:
        chances: of each episode, (Q, N) probabilities.
        labels: of each episode, (Q,) classes.
        shots: of each episode, the mean number K of support texts a class.
    """
    logs = [np.log(np.clip(p, np.finfo(np.float32).tiny, None)) for p in chances]
    ways = [p.shape[1] for p in chances]
    places = np.stack([np.log1p(shots), np.log(ways)], axis=1)
    # Around their means, so that the three numbers do not stand in for one another; where all are alike, they are zero.
    middle = places.mean(0)
    centred = np.column_stack([np.ones(len(logs)), places - middle])

    def loss(numbers: np.ndarray) -> float:
        heat = np.clip(centred @ numbers, *LOG_BOUNDS)
        cooled = (log_softmax(log / np.exp(t), axis=1) for log, t in zip(logs, heat, strict=True))
        likely = [log[np.arange(len(y)), y].mean() for log, y in zip(cooled, labels, strict=True)]
        return PULL * float(numbers[1] ** 2 + numbers[2] ** 2) - float(np.mean(likely))

    found: Any = minimize(loss, np.zeros(3))
    level, by_shots, by_ways = found.x
    base = level - by_shots * middle[0] - by_ways * middle[1]
    ranges = (float(min(shots)), float(max(shots))), (float(min(ways)), float(max(ways)))
    return Temperature(float(base), float(by_shots), float(by_ways), *ranges)
