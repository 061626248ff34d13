"""Samplers: endless sequences of episodes in which episode i is a function of (seed, i) and of nothing else.

So tasks can be sharded over machines, asked for in any order, and a killed run continues with the episodes
that it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import index
from typing import Any, Protocol

import numpy as np

from episodes.corpus import Corpus
from episodes.episode import Episode
from episodes.errors import InputError, listing

Range = int | tuple[int, int]
"""A number, or the smallest and the largest of a range that each episode draws from."""


def bounds(number: Range) -> tuple[int, int]:
    """The smallest and the largest of a range; twice the same of a number."""
    return (number, number) if isinstance(number, int) else (number[0], number[1])


class Sampler(Protocol):
    """Anything that has an episode for each whole number from 0 on."""

    def __getitem__(self, i: int, /) -> Episode:
        """Episode i, the same whenever and wherever it is asked for."""
        ...


class EpisodeSampler:
    """N-way K-shot episodes from one corpus.

    Neither construction nor sampling touches a text. Episode i has the same classes and queries whatever
    `k_shot` is, and its 1-shot support is part of its 5-shot support, so that two numbers of shots are
    compared on the same questions.

    Args:
        corpus: where classes and texts come from.
        n_way: classes in an episode, at least 2: a number, or an inclusive range (low, high) to draw from.
        k_shot: support texts a class, at least 0 (names only): a number or an inclusive range.
        n_query: query texts a class, at least 1.
        seed: at least 0.
        balanced: whether the classes of an episode have the same number of shots; if not, each class draws
            its own from the range `k_shot`.
        within_domains: share of the episodes, 0 to 1, whose classes are all of one domain, as those of a user's
            task are; of no more ways than that has. Every domain of enough classes is as likely as the others.

    Raises:
        InputError: an argument is out of its range; the corpus has too few classes; or a class has fewer than
            K + Q texts, with K the upper end of `k_shot` (these classes are listed); or it holds copies of texts;
            or no domain has enough classes.
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
    ) -> None:
        self.corpus = corpus
        self.n_way = _inclusive_range("n_way", n_way, least=2)
        self.k_shot = _inclusive_range("k_shot", k_shot, least=0)
        self.n_query = _whole_number("n_query", n_query, least=1)
        self.seed = _whole_number("seed", seed, least=0)
        self.balanced = balanced
        if not balanced and self.k_shot[0] == self.k_shot[1]:
            raise InputError(f"balanced=False needs a range of shots such as (1, 5); k_shot is {self.k_shot[0]}.")
        self._refuse_infeasible()
        self.within_domains = within_domains
        self._domains = self._large_enough_domains() if within_domains else []

    def _refuse_infeasible(self) -> None:
        corpus, most_ways, most_shots = self.corpus, self.n_way[1], self.k_shot[1]
        if corpus.n_copies:
            raise InputError(
                f"{corpus.name} holds {corpus.n_copies} copies of texts, which could be support and query at once; "
                "make it with Corpus.load, which drops them."
            )
        if most_ways > corpus.n_classes:
            raise InputError(
                f"n_way is {most_ways}, but {corpus.name} has only {corpus.n_classes} classes; lower n_way."
            )
        needed = most_shots + self.n_query
        counts = np.bincount(corpus.labels, minlength=corpus.n_classes)
        short = [f"{corpus.class_names[i]!r} has {counts[i]}" for i in np.flatnonzero(counts < needed)]
        if short:
            raise InputError(
                f"Each class of {corpus.name} needs {needed} texts ({most_shots} support and {self.n_query} "
                f"query), but {listing(short)}; lower k_shot or n_query, or leave these classes out."
            )

    def _large_enough_domains(self) -> list[np.ndarray]:
        """The classes of each domain that has as many as an episode needs at least."""
        if not 0 <= self.within_domains <= 1:
            raise InputError(f"within_domains is {self.within_domains}; it is a share of the episodes, from 0 to 1.")
        of = np.array(self.corpus.domains)
        found = [np.flatnonzero(of == domain) for domain in dict.fromkeys(self.corpus.domains)]
        found = [classes for classes in found if len(classes) >= self.n_way[0]]
        if not found:
            known = "has none" if not self.corpus.domains else f"has none of {self.n_way[0]} classes"
            raise InputError(
                f"Episodes within domains need a corpus that knows them, and {self.corpus.name} {known}; name a "
                "domain_column, lower n_way, or leave out within_domains."
            )
        return found

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0; IndexError for a negative i."""
        # Which numbers a Generator draws could change with a release of numpy (NEP 19); so a test
        # holds some of them.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _episode_number(i)]))
        eligible = np.arange(self.corpus.n_classes)
        if self._domains and rng.random() < self.within_domains:
            eligible = self._domains[rng.integers(len(self._domains))]
        classes = rng.permutation(eligible)[: _draw(rng, self.n_way)]
        # Queries are taken before support, from an order that does not depend on the number of shots.
        orders = [rng.permutation(self.corpus.rows_of(c)) for c in classes]
        if self.balanced:
            shots = [_draw(rng, self.k_shot)] * len(classes)
        else:
            shots = [_draw(rng, self.k_shot) for _ in classes]
        return Episode(
            corpus=self.corpus,
            class_indices=classes,
            support=np.concatenate([rows[self.n_query :][:k] for rows, k in zip(orders, shots, strict=True)]),
            support_labels=np.repeat(np.arange(len(classes)), shots),
            query=np.concatenate([rows[: self.n_query] for rows in orders]),
            query_labels=np.repeat(np.arange(len(classes)), self.n_query),
        )


class MixtureSampler:
    """Episodes from several samplers, each episode from one of them.

    Args:
        samplers: at least one; usually one for each corpus.
        weights: how often each is picked, in proportion; positive. Where it is None, all alike.
        seed: of the picks, at least 0.

    Raises:
        InputError: no sampler, or weights that are not one positive number for each.
    """

    def __init__(self, samplers: Sequence[Sampler], weights: Sequence[float] | None = None, seed: int = 0) -> None:
        self.samplers = tuple(samplers)
        self.seed = _whole_number("seed", seed, least=0)
        if not self.samplers:
            raise InputError("A mixture needs at least one sampler.")
        values = np.ones(len(self.samplers)) if weights is None else np.array(weights, dtype=np.float64)
        if values.shape != (len(self.samplers),) or not np.all((values > 0) & np.isfinite(values)):
            raise InputError(
                f"A mixture of {len(self.samplers)} samplers needs as many positive weights, not {weights}."
            )
        self.weights = values / values.sum()

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0 of the sampler picked for i; IndexError for a negative i."""
        # A spawn key of its own, or the pick would be made from the same random numbers as the episode.
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _episode_number(i)], spawn_key=(1,)))
        return self.samplers[rng.choice(len(self.samplers), p=self.weights)][i]


class WrongLabels:
    """The episodes of another sampler, some of their support texts under the label of another class.

    Args:
        sampler: whose episodes.
        share: of the support texts of each episode, from 0 to 1; rounded to whole texts.
        seed: of the choice, at least 0.

    Raises:
        InputError: a share that is none.
    """

    def __init__(self, sampler: Sampler, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"the share of wrong labels is {share}; it is a number from 0 to 1.")
        self.sampler, self.share, self.seed = sampler, share, _whole_number("seed", seed, least=0)

    def __getitem__(self, i: int) -> Episode:
        """Episode i >= 0; IndexError for a negative i."""
        episode = self.sampler[i]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _episode_number(i)], spawn_key=(2,)))
        labels = episode.support_labels.copy()
        chosen = rng.permutation(len(labels))[: round(self.share * len(labels))]
        labels[chosen] = (labels[chosen] + rng.integers(1, episode.n_way, len(chosen))) % episode.n_way
        return replace(episode, support_labels=labels)


def _draw(rng: np.random.Generator, between: tuple[int, int]) -> int:
    return int(rng.integers(between[0], between[1] + 1))


def _episode_number(i: int) -> int:
    number = index(i)
    if number < 0:
        raise IndexError(f"Episodes are numbered from 0 on and have no last one; {number} was asked for.")
    return number


def _whole_number(name: str, value: Any, least: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; it is {value!r}.")
    return int(value)


def _inclusive_range(name: str, value: Any, least: int) -> tuple[int, int]:
    given = value if isinstance(value, (tuple, list)) else (value, value)
    whole = len(given) == 2 and all(isinstance(bound, (int, np.integer)) for bound in given)
    if not whole or not least <= given[0] <= given[1]:
        raise InputError(f"{name} must be a whole number of at least {least}, or a range (low, high); it is {value!r}.")
    return int(given[0]), int(given[1])
