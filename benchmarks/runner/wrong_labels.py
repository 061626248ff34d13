"""Episodes with label noise."""

from dataclasses import replace

import numpy as np

from episodes import Episode, InputError
from episodes.sampler import Sampler, episode_index


class WrongLabels:
    """The episodes of another sampler, in which some support texts have the label of another class of the episode.

    Args:
        sampler: sampler of the episodes.
        share: share of the support texts of each episode, 0 to 1; rounded to a number of texts.
        seed: seed of the choice of texts and labels, at least 0.

    Raises:
        InputError: the share is out of its range.
    """

    def __init__(self, sampler: Sampler, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"wrong_labels={share} must be a share of the support texts, from 0 to 1.")
        self.sampler, self.share, self.seed = sampler, share, seed

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0; IndexError for a negative i."""
        episode = self.sampler[i]
        # A spawn key of its own, or the choice would use the same random numbers as the episode.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, episode_index(i)], spawn_key=(2,)))
        labels = episode.support_labels.copy()
        chosen = rng.permutation(len(labels))[: round(self.share * len(labels))]
        labels[chosen] = (labels[chosen] + rng.integers(1, episode.n_way, len(chosen))) % episode.n_way
        return replace(episode, support_labels=labels)
