"""Samplers: endless sequences of episodes in which episode i is a function of (seed, i) alone.

Tasks can therefore be distributed over machines, and a killed run continues with the episodes it would have drawn.
"""

from collections.abc import Sequence
from operator import index
from typing import Any, Protocol

import numpy as np

from episodes.corpus import Corpus
from episodes.episode import Episode
from episodes.errors import InputError, listing
from episodes.unlabelled import UnlabelledSet

Range = int | tuple[int, int]
"""A number, or the smallest and the largest number of a range that each episode draws from."""


def bounds(number: Range) -> tuple[int, int]:
    """The smallest and the largest number of a range; a number is a range of itself."""
    return (number, number) if isinstance(number, int) else (number[0], number[1])


class Sampler(Protocol):
    """A sequence with an episode for each integer from 0 on."""

    def __getitem__(self, i: int, /) -> Episode:
        """Episode i, always the same one."""
        ...


class EpisodeSampler:
    """N-way K-shot episodes from one corpus.

    Episode i has the same classes and queries for every `k_shot`, and its 1-shot support is part of its 5-shot support,
    so that different numbers of shots are compared on the same queries. Sampling touches indices, never texts.

    Args:
        corpus: corpus of classes and texts.
        n_way: number of classes per episode, at least 2; a range (low, high) is drawn from, both ends included.
        k_shot: number of support texts per class, at least 0 (class names only), or a range.
        n_query: number of query texts per class, at least 1.
        seed: seed of the episodes, at least 0.
        balanced: whether all classes of an episode have the same number of shots; otherwise each class draws its own
            number from the range `k_shot`.
        within_domains: share of the episodes (0 to 1) whose classes are all from one domain, like those of a user's
            task. Every domain with enough classes is equally likely.
        n_unlabelled: number of unlabelled texts, or a range. They are neither support nor query, the same for every
            `k_shot` as far as possible, and fewer if the corpus has no more. Without them, an episode is the same.
        distractors: share of the unlabelled texts that belong to no class of the episode.
        skew: how many times as many unlabelled texts the most frequent class has as the rarest one.

    Raises:
        InputError: an argument is out of its range; or the corpus contains duplicates, or has too few classes, too few
            texts in a class (the upper end of `k_shot` plus `n_query` are needed), no domain with enough classes, or
            no further classes for distractors.
    """

    def __init__(
        self,
        corpus: Corpus,
        n_way: Range = 5,
        k_shot: Range = 5,
        n_query: int = 10,
        seed: int = 0,
        *,
        balanced: bool = True,
        within_domains: float = 0.0,
        n_unlabelled: Range = 0,
        distractors: float = 0.0,
        skew: float = 1.0,
    ) -> None:
        self.corpus = corpus
        self.n_way = _inclusive_range("n_way", n_way, least=2)
        self.k_shot = _inclusive_range("k_shot", k_shot, least=0)
        self.n_query = _integer("n_query", n_query, least=1)
        self.seed = _integer("seed", seed, least=0)
        self.balanced = balanced
        if not balanced and self.k_shot[0] == self.k_shot[1]:
            raise InputError(f"balanced=False needs a range of shots such as (1, 5); got k_shot={self.k_shot[0]}.")
        self._require_enough_texts()
        self.within_domains = within_domains
        self._domains = self._domains_with_enough_classes() if within_domains else []
        self.n_unlabelled = _inclusive_range("n_unlabelled", n_unlabelled, least=0)
        self._unlabelled = UnlabelledSet(distractors, skew)
        if distractors and corpus.n_classes <= self.n_way[1]:
            problem = f"distractors={distractors} needs more classes than the {self.n_way[1]} of an episode"
            raise InputError(f"{problem}, but {corpus.name} has {corpus.n_classes}; lower n_way.")

    def _require_enough_texts(self) -> None:
        corpus, most_ways, most_shots = self.corpus, self.n_way[1], self.k_shot[1]
        if corpus.n_duplicates:
            duplicates = f"{corpus.n_duplicates} duplicate texts, which could be both support and query"
            raise InputError(f"{corpus.name} contains {duplicates}; create it with Corpus.load, which drops them.")
        if most_ways > corpus.n_classes:
            raise InputError(f"n_way={most_ways} is too large: {corpus.name} has {corpus.n_classes} classes.")
        needed = most_shots + self.n_query
        counts = np.bincount(corpus.labels, minlength=corpus.n_classes)
        if short := [f"{corpus.class_names[i]!r} has {counts[i]}" for i in np.flatnonzero(counts < needed)]:
            requirement = f"k_shot={most_shots} and n_query={self.n_query} need {needed} texts in each class"
            advice = "lower one of them, or leave these classes out"
            raise InputError(f"{requirement} of {corpus.name}, but {listing(short)}; {advice}.")

    def _domains_with_enough_classes(self) -> list[np.ndarray]:
        """Class indices of each domain that has enough classes for an episode."""
        if not 0 <= self.within_domains <= 1:
            raise InputError(f"within_domains={self.within_domains} must be a share of the episodes, from 0 to 1.")
        corpus, least = self.corpus, self.n_way[0]
        domains = [np.flatnonzero(np.array(corpus.domains) == domain) for domain in dict.fromkeys(corpus.domains)]
        if not any(len(classes) >= least for classes in domains):
            available = f"no domain with {least} classes" if domains else "no domains"
            advice = "Give a domain_column, lower n_way, or leave within_domains out."
            given = f"within_domains={self.within_domains}"
            raise InputError(f"{given} is not possible: {corpus.name} has {available}. {advice}")
        return [classes for classes in domains if len(classes) >= least]

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0; IndexError for a negative i."""
        # The numbers that a Generator draws could change with a release of numpy (NEP 19); a test holds some of them.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, episode_index(i)]))
        eligible = np.arange(self.corpus.n_classes)
        if self._domains and rng.random() < self.within_domains:
            eligible = self._domains[rng.integers(len(self._domains))]
        classes = rng.permutation(eligible)[: _draw(rng, self.n_way)]
        # Queries are taken before support, from an order that does not depend on the number of shots.
        orders = [rng.permutation(self.corpus.rows_of(c)) for c in classes]
        draws = (_draw(rng, self.k_shot) for _ in classes)
        shots = [next(draws)] * len(classes) if self.balanced else list(draws)
        return Episode(
            corpus=self.corpus,
            class_indices=classes,
            support=np.concatenate([rows[self.n_query :][:k] for rows, k in zip(orders, shots, strict=True)]),
            unlabelled=self._unlabelled_rows(rng, classes, orders, shots),
            support_labels=np.repeat(np.arange(len(classes)), shots),
            query=np.concatenate([rows[: self.n_query] for rows in orders]),
            query_labels=np.repeat(np.arange(len(classes)), self.n_query),
        )

    def _unlabelled_rows(
        self, rng: np.random.Generator, classes: np.ndarray, orders: Sequence[np.ndarray], shots: Sequence[int]
    ) -> np.ndarray:
        """Rows of the unlabelled texts, from the end of the order (n,) of the rows of each class."""
        number = _draw(rng, self.n_unlabelled)
        own = [rows[self.n_query + k :][::-1] for rows, k in zip(orders, shots, strict=True)]
        others = np.flatnonzero(~np.isin(self.corpus.labels, classes))
        return self._unlabelled.draw(rng, number, own, others)


class MixtureSampler:
    """Episodes from several samplers; each episode comes from one of them.

    Args:
        samplers: at least one sampler (InputError otherwise), usually one for each corpus.
        weights: relative frequency of each sampler, positive (InputError otherwise); None: all equal.
        seed: seed of the choice, at least 0.
    """

    def __init__(self, samplers: Sequence[Sampler], weights: Sequence[float] | None = None, seed: int = 0) -> None:
        self.samplers = tuple(samplers)
        self.seed = _integer("seed", seed, least=0)
        if not self.samplers:
            raise InputError("A mixture needs at least one sampler.")
        values = np.ones(len(self.samplers)) if weights is None else np.array(weights, dtype=np.float64)
        if values.shape != (len(self.samplers),) or not np.all((values > 0) & np.isfinite(values)):
            raise InputError(f"weights={weights} must be {len(self.samplers)} positive numbers, one for each sampler.")
        self.weights = values / values.sum()

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0 of the sampler chosen for i; IndexError for a negative i."""
        # A spawn key of its own, or the choice would use the same random numbers as the episode.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, episode_index(i)], spawn_key=(1,)))
        return self.samplers[rng.choice(len(self.samplers), p=self.weights)][i]


def episode_index(i: int) -> int:
    """The index as a Python integer; IndexError if it is negative."""
    number = index(i)
    if number < 0:
        raise IndexError(f"Episodes are numbered from 0 on and have no last one; got index {number}.")
    return number


def _draw(rng: np.random.Generator, between: tuple[int, int]) -> int:
    return int(rng.integers(between[0], between[1] + 1))


def _integer(name: str, value: Any, least: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name}={value!r} must be an integer of at least {least}.")
    return int(value)


def _inclusive_range(name: str, value: Any, least: int) -> tuple[int, int]:
    ends = value if isinstance(value, (tuple, list)) else (value, value)
    integers = len(ends) == 2 and all(isinstance(end, (int, np.integer)) for end in ends)
    if not integers or not least <= ends[0] <= ends[1]:
        raise InputError(f"{name}={value!r} must be an integer of at least {least}, or a range (low, high).")
    return int(ends[0]), int(ends[1])
