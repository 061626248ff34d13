"""Whether probabilities mean what they say, and the temperature that makes them.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, eq. 3 (expected calibration
    error) and sec. 4.2 (temperature scaling).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
TEMPERATURES = (0.02, 50.0)
"""Between which the best one is looked for."""


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


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence|, averaged over predictions by way of `bins_of`."""
    gaps = [b["number"] * abs(b["accuracy"] - b["confidence"]) for b in bins_of(confidence, right)]
    return sum(gaps) / len(confidence)


def best_temperature(chances: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """The temperature that makes the labels most likely: logits divided by it, the predicted classes stay.

    Args:
        chances: of each episode, (Q, C) probabilities.
        labels: of each episode, (Q,) classes.
    """
    logs = [np.log(np.clip(p, np.finfo(np.float32).tiny, None)) for p in chances]

    def loss(log_temperature: float) -> float:
        cooled = (log_softmax(log / np.exp(log_temperature), axis=1) for log in logs)
        return -sum(log[np.arange(len(y)), y].sum() for log, y in zip(cooled, labels, strict=True))

    found: Any = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))
