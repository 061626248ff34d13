"""The temperature: logits are divided by it, so that probabilities are calibrated.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, sec. 4.2.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from episodes import InputError
from episodes.schemas import Strict
from metawarp.parameters import power_law

LARGEST = 20
"""Largest size of the coefficients; exp(20) is far beyond every temperature that has been useful."""


@dataclass(frozen=True)
class Temperature(Strict):
    """The temperature exp(base + by_shots·log(1 + K) + by_ways·log N) of a task of N classes with K texts each.

    One number for all tasks is not enough: class embeddings fitted to more texts are more overconfident. Outside the
    ranges that it was chosen on, the nearest number of shots or ways is used.

    Args:
        base: logarithm of the temperature at K = 0 and N = 1.
        by_shots: coefficient of log(1 + K).
        by_ways: coefficient of log N.
        shots: smallest and largest K that it was chosen on.
        ways: smallest and largest N that it was chosen on.
    """

    base: float = 0.0
    by_shots: float = 0.0
    by_ways: float = 0.0
    shots: tuple[float, float] = (0.0, 0.0)
    ways: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("base", "by_shots", "by_ways"):
            if not abs(getattr(self, name)) <= LARGEST:
                raise InputError(f"{name}={getattr(self, name)} must be a number from -{LARGEST} to {LARGEST}.")
        for name, least in (("shots", 0), ("ways", 1)):
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                raise InputError(f"{name}={getattr(self, name)} must be a range from {least} or more.")

    def of(self, shots: Tensor, ways: Tensor) -> Tensor:
        """Temperature (T,) of tasks with mean shots K (T,) and ways N (T,)."""
        size = shots.clamp(*self.shots), ways.clamp(*self.ways)
        return power_law(*size, self.base, self.by_shots, self.by_ways)
