"""Whether probabilities mean what they say, and the temperature that makes them.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, eq. 3 (expected calibration
    error) and sec. 4.2 (temperature scaling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

BINS = 15
LOG_BOUNDS, PULL = (-4.0, 4.0), 1e-3
"""Of a temperature's logarithm; and how much a dependence on shots or ways has to be worth."""


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


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by: T = exp(base + by_shots·log(1 + K) + by_ways·log N), for N classes of K texts.

    Not one number for all tasks: rows fitted to more texts are surer of themselves than they are right.
    """

    base: float = 0.0
    by_shots: float = 0.0
    by_ways: float = 0.0

    def log(self, log_shots: Any, log_ways: Any) -> Any:
        """Its logarithm at log(1 + K) and log N, in arrays or tensors."""
        return self.base + self.by_shots * log_shots + self.by_ways * log_ways


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
    at = [(np.log1p(k), np.log(p.shape[1])) for k, p in zip(shots, chances, strict=True)]

    def loss(numbers: np.ndarray) -> float:
        heat = [float(np.clip(Temperature(*numbers).log(*place), *LOG_BOUNDS)) for place in at]
        cooled = (log_softmax(log / np.exp(t), axis=1) for log, t in zip(logs, heat, strict=True))
        likely = [log[np.arange(len(y)), y].mean() for log, y in zip(cooled, labels, strict=True)]
        # Where all episodes are alike, the constant says everything.
        return PULL * float(numbers[1] ** 2 + numbers[2] ** 2) - float(np.mean(likely))

    found: Any = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    return Temperature(*map(float, found.x))
