"""What logits are divided by, so that probabilities mean what they say.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, sec. 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by: T = exp(base + by_shots·log(1 + K) + by_ways·log N), for N classes of K texts.

    Not one number for all tasks: rows fitted to more texts are surer of themselves than they are right. Numbers of
    shots and ways beyond those that it was chosen on count as the nearest of these.

    Args:
        base: at K = 0 and N = 1.
        by_shots: what log(1 + K) adds.
        by_ways: what log N adds.
        shots: the smallest and the largest K that it was chosen on.
        ways: the same of N.
    """

    base: float = 0.0
    by_shots: float = 0.0
    by_ways: float = 0.0
    shots: Sequence[float] = (0.0, 0.0)
    ways: Sequence[float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse what is no number; lists of JSON become tuples."""
        object.__setattr__(self, "shots", tuple(self.shots))
        object.__setattr__(self, "ways", tuple(self.ways))
        for number in (self.base, self.by_shots, self.by_ways, *self.shots, *self.ways):
            if not math.isfinite(number):
                raise ValueError(f"a temperature is made of finite numbers, not {number}")

    def of(self, shots: Tensor, ways: Tensor) -> Tensor:
        """T of tasks of K mean shots and N ways, each (T,)."""
        shots, ways = shots.clamp(*self.shots), ways.clamp(*self.ways)
        return torch.exp(self.base + self.by_shots * shots.log1p() + self.by_ways * ways.log())
