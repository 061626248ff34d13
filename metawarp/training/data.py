"""What an init is meta-trained on: one corpus or several, each with its own class split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from episodes import ClassSplit, Corpus, EpisodeSampler, InputError
from episodes.errors import listing
from episodes.sampler import MixtureSampler, Range, Sampler, bounds
from episodes.splits import PARTS
from metawarp.evaluation.protocol import SPLITS, Names, class_split, validation_sampler

logger = logging.getLogger(__name__)

Source = str | Path | Corpus
"""A corpus, or what it is loaded from."""


@dataclass(frozen=True)
class TrainingData:
    """Corpora and their class splits, in the same order; build one with `of`.

    Attributes:
        corpora: at least one.
        splits: of each.
    """

    corpora: tuple[Corpus, ...]
    splits: tuple[ClassSplit, ...]

    @classmethod
    def of(cls, corpora: Sequence[Source], splits: Sequence[Names] | None = None, seed: int = 0) -> TrainingData:
        """Load and split.

        Args:
            corpora: each a corpus, or the file or name of one whose columns are "text" and "label".
            splits: a splits.json, or its content, for each; None: see `protocol.class_split`.
            seed: of splits that are drawn.

        Raises:
            InputError: not one split for each corpus; a corpus or split cannot be used.
        """
        if splits is not None and len(splits) != len(corpora):
            raise InputError(f"{len(corpora)} corpora need as many splits, not {len(splits)}.")
        loaded = tuple(corpus if isinstance(corpus, Corpus) else Corpus.load(corpus) for corpus in corpora)
        found = cls(
            loaded, tuple(class_split(c, None if splits is None else splits[i], seed) for i, c in enumerate(loaded))
        )
        names = found.class_names()
        known = set(names["train"])
        if len(loaded) > 1 and (leaks := [name for name in (*names["validation"], *names["test"]) if name in known]):
            logger.warning(
                "%d classes are trained on in one corpus and held out in another (%s)",
                len(leaks),
                listing(map(repr, leaks), 3),
            )
        return found

    def sampler(
        self,
        n_way: Range,
        k_shot: Range,
        n_query: int,
        seed: int,
        *,
        balanced: bool = True,
        within_domains: float = 0.0,
    ) -> Sampler:
        """Meta-training episodes, each from one corpus, as often as that has classes.

        Of several corpora, one that is too small for so many ways and shots has fewer of them.

        Args:
            n_way: classes of an episode.
            k_shot: support texts a class.
            n_query: query texts a class.
            seed: of the episodes.
            balanced: whether all classes of an episode have the same number of shots.
            within_domains: see `EpisodeSampler`; of several corpora, those without domains do without.

        Raises:
            InputError: see `EpisodeSampler`; no corpus has domains to stay within.
        """
        parts = [split.train for split in self.splits]
        if len(parts) == 1:
            return EpisodeSampler(
                parts[0], n_way, k_shot, n_query, seed, balanced=balanced, within_domains=within_domains
            )
        samplers, some_know_domains = [], any(part.domains for part in parts)
        for part in parts:
            ways, shots = _at_most(n_way, part.n_classes), _shots(part, k_shot, n_query)
            if (ways, shots) != (bounds(n_way), bounds(k_shot)):
                logger.warning("%s: episodes of %d to %d ways and %d to %d shots", part.name, *ways, *shots)
            even = balanced or shots[0] == shots[1]
            within = within_domains if part.domains or not some_know_domains else 0.0
            samplers.append(EpisodeSampler(part, ways, shots, n_query, seed, balanced=even, within_domains=within))
        return MixtureSampler(samplers, [part.n_classes for part in parts], seed)

    def validation(
        self, n_way: Range, k_shot: Range, n_query: int, seed: int, *, within_domains: float = 0.0
    ) -> Sampler:
        """Episodes over the validation classes; see `protocol.validation_sampler`."""
        if len(self.splits) == 1:
            return validation_sampler(self.splits[0], n_way, k_shot, n_query, seed, within_domains=within_domains)
        samplers = [
            validation_sampler(
                split, n_way, _shots(split.validation, k_shot, n_query), n_query, seed, within_domains=within_domains
            )
            for split in self.splits
        ]
        return MixtureSampler(samplers, [split.validation.n_classes for split in self.splits], seed + 1)

    def class_names(self) -> dict[str, list[str]]:
        """By part, the names of all corpora's classes, each once."""
        return {
            part: list(dict.fromkeys(name for split in self.splits for name in split[part].class_names))
            for part in PARTS
        }

    def texts(self) -> list[str]:
        """All texts and names that training and validation read."""
        parts = [part for split in self.splits for part in (split.train, split.validation)]
        return [*(text for part in parts for text in part.texts), *self.all_names()]

    def all_names(self) -> list[str]:
        """Names of all classes, those of the test among them."""
        return [name for corpus in self.corpora for name in corpus.class_names]

    def describe(self) -> dict[str, Any]:
        """What an init remembers of its training data."""
        names = self.class_names()
        return {
            "corpus": " + ".join(corpus.name for corpus in self.corpora),
            "corpus_fingerprint": " + ".join(corpus.fingerprint for corpus in self.corpora),
            "classes": {part: len(names[part]) for part in PARTS},
            "class_names": names,
        }

    def write_splits(self, folder: Path) -> None:
        """Write the split of each corpus; see `split_files`."""
        for file, split in zip(split_files(len(self.splits)), self.splits, strict=True):
            split.to_json(folder / file)


def split_files(number: int) -> list[str]:
    """Names of the files with the splits of so many corpora: splits.json, or splits-1.json, splits-2.json, …"""
    stem = Path(SPLITS).stem
    return [SPLITS] if number == 1 else [f"{stem}-{i}.json" for i in range(1, number + 1)]


def _shots(part: Corpus, k_shot: Range, n_query: int) -> tuple[int, int]:
    """The shots that are left to the smallest class beside its queries, of those asked for."""
    return _at_most(k_shot, max(int(np.bincount(part.labels).min()) - n_query, 0))


def _at_most(number: Range, most: int) -> tuple[int, int]:
    low, high = bounds(number)
    return min(low, most), min(high, most)
