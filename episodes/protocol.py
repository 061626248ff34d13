"""Which classes are trained, validated and tested on, and the episodes of the validation classes."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from episodes.corpus import ClassSplit, Corpus
from episodes.errors import InputError, require_choice
from episodes.reading import BUNDLED
from episodes.sampler import EpisodeSampler, Range, bounds

logger = logging.getLogger(__name__)

SplitSource = str | Path | Mapping[str, Sequence[str]]
"""Path of a splits.json, or the class names by part that it holds."""

Part = Literal["train", "validation", "test", "all"]
"""Classes to test on: a part of the split, or all classes."""

FRACTIONS = (0.6, 0.15, 0.25)
"""Shares of the classes for meta-training, validation and test if no split is given."""

SPLITS_FILE = "splits.json"
"""Name of the file with the class names of a split."""


def class_split(corpus: Corpus, splits: SplitSource | None, seed: int) -> ClassSplit:
    """The given split; without one, a bundled corpus's own split, or `FRACTIONS` drawn from a seed.

    Errors are those of `Corpus.split_classes`.
    """
    if splits is not None:
        return corpus.split_classes(splits)
    return corpus.split_classes(corpus.name if _is_bundled(corpus) else FRACTIONS, seed)


def tested_classes(corpus: Corpus, splits: str | Path | None, part: Part) -> tuple[ClassSplit | None, Corpus]:
    """The class split and the corpus of the tested classes; the split is None if validation classes are tested too.

    `splits` is None for the split of a bundled corpus. InputError for an unknown part, a part of an unknown split, or a
    split that would not be used.
    """
    require_choice("split", part, get_args(Part))
    if part == "all":
        if splits is not None:
            raise InputError("split='all' tests every class and cannot be combined with splits; leave one of them out.")
        return None, corpus
    if splits is None and not _is_bundled(corpus):
        advice = f"give splits=FILE (training writes {SPLITS_FILE}), or split='all' for every class"
        raise InputError(f"split={part!r} of {corpus.name} is not known; {advice}.")
    split = corpus.split_classes(splits or corpus.name)
    return (None if part == "validation" else split), split[part]


def validation_sampler(
    split: ClassSplit,
    n_way: Range,
    k_shot: Range,
    n_query: int,
    seed: int,
    *,
    within_domains: float = 0.0,
    n_unlabelled: Range = 0,
    distractors: float = 0.0,
    skew: float = 1.0,
) -> EpisodeSampler:
    """Episodes over the validation classes, drawn with `seed` + 1.

    The arguments and errors are those of `EpisodeSampler`. There are fewer ways if there are not enough classes.
    `within_domains` is ignored if domains with enough classes hold less than half of the validation classes.
    """
    available = split.validation.n_classes
    low, high = bounds(n_way)
    if high > available:
        logger.warning("validation episodes have %d ways: there are no more validation classes", available)
    ways = (min(low, available), min(high, available))
    sizes = Counter(split.validation.domains).values()
    if not sizes:
        within_domains = 0.0
    elif within_domains and 2 * sum(size for size in sizes if size >= ways[0]) < available:
        logger.warning("validation episodes mix domains: too few domains have %d validation classes", ways[0])
        within_domains = 0.0
    unlabelled = {"n_unlabelled": n_unlabelled, "distractors": distractors, "skew": skew}
    sizes = ways, k_shot, n_query
    return EpisodeSampler(split.validation, *sizes, seed + 1, within_domains=within_domains, **unlabelled)


def _is_bundled(corpus: Corpus) -> bool:
    # Not by its name alone, which anybody may choose.
    return corpus.name in BUNDLED and corpus.fingerprint == Corpus.load(corpus.name).fingerprint
