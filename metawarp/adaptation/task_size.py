"""Numbers that depend on the size of a task: on how many classes it has, and how many texts per class."""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from episodes import InputError
from episodes.schemas import Strict


@dataclass(frozen=True)
class BySize(Strict):
    """The number base + by_shots·log(1 + K) + by_ways·log N for a task of N classes with K texts each.

    Outside the ranges that the coefficients were chosen on, the nearest number of shots or ways is used. A subclass may
    have further coefficients.

    Args:
        base: the number at K = 0 and N = 1.
        by_shots: coefficient of log(1 + K).
        by_ways: coefficient of log N.
        shots: smallest and largest K that they were chosen on.
        ways: smallest and largest N that they were chosen on.
    """

    base: float = 0.0
    by_shots: float = 0.0
    by_ways: float = 0.0
    shots: tuple[float, float] = (0.0, 0.0)
    ways: tuple[float, float] = (1.0, 1.0)

    LARGEST: ClassVar[float]
    """Largest size of a coefficient."""

    def __post_init__(self) -> None:
        ranges = {"shots": 0, "ways": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ranges and not abs(value) <= self.LARGEST:
                raise InputError(f"{field.name}={value} must be a number from -{self.LARGEST:g} to {self.LARGEST:g}.")
        for name, least in ranges.items():
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                raise InputError(f"{name}={getattr(self, name)} must be a range from {least} or more.")

    def at(self, shots: Tensor, ways: Tensor) -> Tensor:
        """The number (T,) for tasks with mean shots K (T,) and ways N (T,)."""
        shots, ways = shots.clamp(*self.shots), ways.clamp(*self.ways)
        return self.base + self.by_shots * shots.log1p() + self.by_ways * ways.log()
