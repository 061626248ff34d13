"""Which classes are trained, validated and tested on, and with which episodes."""

from __future__ import annotations

import logging

from episodes import ClassSplit, Corpus, EpisodeSampler, InputError
from episodes.errors import listing
from episodes.reading import BUNDLED
from episodes.splits import PARTS

logger = logging.getLogger(__name__)

Range = int | tuple[int, int]
"""A number, or the smallest and the largest of a range that each episode draws from."""

FRACTIONS = (0.6, 0.15, 0.25)
"""Shares of the classes for meta-training, validation and test where no split is given."""

SPLITS = "splits.json"
"""Where a training run writes the class names of its split."""


def class_split(corpus: Corpus, splits: str | None, seed: int) -> ClassSplit:
    """The split of a splits.json; the bundled corpus's own; or, for other corpora, `FRACTIONS` drawn from a seed."""
    if splits is not None:
        return corpus.split_classes(splits)
    return corpus.split_classes(BUNDLED if corpus.name == BUNDLED else FRACTIONS, seed)


def tested_classes(corpus: Corpus, splits: str | None, part: str) -> tuple[ClassSplit | None, Corpus]:
    """The class split, where it leaves validation classes to choose by, and the classes that are tested.

    Args:
        corpus: all classes.
        splits: path of a splits.json; None: none is known but for the bundled corpus.
        part: "train", "validation", "test", or "all" for every class.

    Raises:
        InputError: an unknown part, or one of a split that is not known.
    """
    if part == "all":
        return None, corpus
    if part not in PARTS:
        raise InputError(f"split is {part!r}; it can be {listing((*PARTS, 'all'))}.")
    if splits is None and corpus.name != BUNDLED:
        raise InputError(
            f"split {part!r} of {corpus.name} is not known; give --splits FILE "
            f"(training writes one as {SPLITS}), or --split all for every class."
        )
    split = corpus.split_classes(splits or BUNDLED)
    return split, split[part]


def validation_sampler(split: ClassSplit, n_way: Range, k_shot: Range, n_query: int, seed: int) -> EpisodeSampler:
    """Episodes over the validation classes; of as many ways as they allow where they are fewer than asked for."""
    available = split.validation.n_classes
    low, high = n_way if isinstance(n_way, tuple) else (n_way, n_way)
    if high > available:
        logger.warning("validation episodes are %d-way: there are no more validation classes", available)
    ways = (min(low, available), min(high, available))
    return EpisodeSampler(split.validation, ways, k_shot, n_query, seed + 1)
