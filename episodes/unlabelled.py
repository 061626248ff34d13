"""The unlabelled texts of an episode: from its own classes, in any proportions, and from others, the distractors.

References:
    Ren et al. (2018), "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR, sec. 2.2 and 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from episodes.errors import InputError


@dataclass(frozen=True)
class UnlabelledSet:
    """How the unlabelled texts of an episode are drawn.

    Args:
        distractors: share of the texts that belong to none of the episode's classes, from 0 to less than 1.
        skew: how many times as many texts the most frequent class has as the rarest one; 1 or more.
    """

    distractors: float = 0.0
    skew: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.distractors < 1:
            raise InputError(f"distractors={self.distractors} must be a share of the unlabelled texts, from 0 to < 1.")
        if not 1 <= self.skew < np.inf:
            raise InputError(f"skew={self.skew} must be a ratio between the classes of at least 1.")

    def draw(self, rng: np.random.Generator, number: int, own: Sequence[np.ndarray], others: np.ndarray) -> np.ndarray:
        """So many rows, in random order; fewer if there are not as many.

        Args:
            rng: source of randomness.
            number: number of rows.
            own: rows of each of the N classes that may be used, in random order.
            others: rows of other classes.
        """
        n_others = round(self.distractors * number)
        proportions = self.skew ** -(rng.permutation(len(own)) / max(len(own) - 1, 1))
        counts = _apportioned(number - n_others, proportions)
        rows = [rows[:count] for rows, count in zip(own, counts, strict=True)]
        return rng.permutation(np.concatenate([*rows, rng.permutation(others)[:n_others]]))


def _apportioned(number: int, proportions: np.ndarray) -> np.ndarray:
    """Whole numbers in these proportions that add up to a number; those with the largest remainders are rounded up."""
    exact = number * proportions / proportions.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: number - counts.sum()]] += 1
    return counts
