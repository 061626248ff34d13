"""Calibration: how far confidence is from accuracy, and the temperature that brings them together.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, eq. 3 (expected calibration
    error) and sec. 4.2 (temperature scaling).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from metawarp.adaptation.temperature import Temperature

BINS = 15
LOG_TEMPERATURE_BOUNDS = (-4.0, 4.0)
PENALTY = 1e-3
"""Weight of the squared coefficients of shots and ways in the loss of a temperature."""


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> list[dict[str, float]]:
    """The bins of a reliability diagram that are not empty: "number" of predictions, mean "confidence", "accuracy".

    They come from the probability (n,) of each predicted class, and whether (n,) it is correct.
    """
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [index == i for i in range(BINS) if (index == i).any()]
    return [
        {"number": int(m.sum()), "confidence": float(confidence[m].mean()), "accuracy": float(correct[m].mean())}
        for m in members
    ]


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence| of each bin, averaged over predictions."""
    gaps = [b["number"] * abs(b["accuracy"] - b["confidence"]) for b in reliability_bins(confidence, correct)]
    return sum(gaps) / len(confidence)


def best_temperature(
    probabilities: Sequence[np.ndarray], labels: Sequence[np.ndarray], shots: Sequence[float]
) -> Temperature:
    """The temperature that makes the labels most likely; it does not change the predicted classes.

    Each episode has probabilities (Q, N), labels (Q,) and the mean number of support texts per class.
    """
    logs = [np.log(np.clip(p, np.finfo(np.float32).tiny, None)) for p in probabilities]
    ways = [p.shape[1] for p in probabilities]
    inputs = np.stack([np.log1p(shots), np.log(ways)], axis=1)
    # Centred, so that the three coefficients do not replace one another; without variation, the last two stay zero.
    mean = inputs.mean(0)
    design = np.column_stack([np.ones(len(logs)), inputs - mean])

    def loss(coefficients: np.ndarray) -> float:
        log_temperatures = np.clip(design @ coefficients, *LOG_TEMPERATURE_BOUNDS)
        scaled = (log_softmax(log / np.exp(t), axis=1) for log, t in zip(logs, log_temperatures, strict=True))
        likelihoods = [log[np.arange(len(y)), y].mean() for log, y in zip(scaled, labels, strict=True)]
        return PENALTY * float(coefficients[1] ** 2 + coefficients[2] ** 2) - float(np.mean(likelihoods))

    result: Any = minimize(loss, np.zeros(3))
    level, by_shots, by_ways = result.x
    base = level - by_shots * mean[0] - by_ways * mean[1]
    ranges = (float(min(shots)), float(max(shots))), (float(min(ways)), float(max(ways)))
    return Temperature(float(base), float(by_shots), float(by_ways), *ranges)
