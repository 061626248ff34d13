"""The temperature: logits are divided by it, so that probabilities are calibrated.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, sec. 4.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from episodes import InputError
from episodes.schemas import Strict
from metawarp.parameters import power_law


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
    shots: Sequence[float] = (0.0, 0.0)
    ways: Sequence[float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("shots", "ways"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        for number in (self.base, self.by_shots, self.by_ways, *self.shots, *self.ways):
            if not math.isfinite(number):
                raise InputError(f"A temperature needs finite numbers, not {number}.")

    def of(self, shots: Tensor, ways: Tensor) -> Tensor:
        """Temperature (T,) of tasks with mean shots K (T,) and ways N (T,)."""
        size = shots.clamp(*self.shots), ways.clamp(*self.ways)
        return power_law(*size, self.base, self.by_shots, self.by_ways)
