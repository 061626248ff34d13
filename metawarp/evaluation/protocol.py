"""Which classes are trained, validated and tested on, and with which episodes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from episodes import ClassSplit, Corpus, EpisodeSampler, InputError
from episodes.errors import listing
from episodes.reading import BUNDLED
from episodes.sampler import Range, bounds
from episodes.splits import PARTS

logger = logging.getLogger(__name__)

Names = str | Path | Mapping[str, Sequence[str]]
"""Path of a splits.json, or the names by part that it holds."""

FRACTIONS = (0.6, 0.15, 0.25)
"""Shares of the classes for meta-training, validation and test where no split is given."""

SPLITS = "splits.json"
"""Where a training run writes the class names of its split."""


def class_split(corpus: Corpus, splits: Names | None, seed: int) -> ClassSplit:
    """The split of a splits.json; a bundled corpus's own; or, for other corpora, `FRACTIONS` drawn from a seed.

    Args:
        corpus: all classes.
        splits: path of a splits.json, or its content, or None.
        seed: of the draw.

    Raises:
        InputError: see `Corpus.split_classes`.
    """
    if splits is not None:
        return corpus.split_classes(splits)
    return corpus.split_classes(corpus.name if _is_bundled(corpus) else FRACTIONS, seed)


def tested_classes(corpus: Corpus, splits: str | Path | None, part: str) -> tuple[ClassSplit | None, Corpus]:
    """The class split, where it leaves untested validation classes to choose by, and the classes that are tested.

    Args:
        corpus: all classes.
        splits: path of a splits.json; None: none is known but for a bundled corpus.
        part: "train", "validation", "test", or "all" for every class.

    Raises:
        InputError: an unknown part, or one of a split that is not known; a split that would not be used.
    """
    if part == "all":
        if splits is not None:
            raise InputError("split 'all' tests every class and has no use for --splits; leave one of them out.")
        return None, corpus
    if part not in PARTS:
        raise InputError(f"split is {part!r}; it can be {listing((*PARTS, 'all'))}.")
    if splits is None and not _is_bundled(corpus):
        raise InputError(
            f"split {part!r} of {corpus.name} is not known; give --splits FILE "
            f"(training writes one as {SPLITS}), or --split all for every class."
        )
    split = corpus.split_classes(splits or corpus.name)
    return (None if part == "validation" else split), split[part]


def validation_sampler(
    split: ClassSplit, n_way: Range, k_shot: Range, n_query: int, seed: int, *, within_domains: float = 0.0
) -> EpisodeSampler:
    """Episodes over the validation classes; of as many ways as they allow where they are fewer than asked for.

    Args:
        split: whose validation classes.
        n_way: classes of an episode.
        k_shot: support texts a class.
        n_query: query texts a class.
        seed: of the run; these episodes are drawn from the next one.
        within_domains: see `EpisodeSampler`; ignored where the corpus knows no domains, or where those of enough
            classes hold less than half of them all.

    Raises:
        InputError: see `EpisodeSampler`.
    """
    available = split.validation.n_classes
    low, high = bounds(n_way)
    if high > available:
        logger.warning("validation episodes are %d-way: there are no more validation classes", available)
    ways = (min(low, available), min(high, available))
    sizes = Counter(split.validation.domains).values()
    if not sizes:
        within_domains = 0.0
    elif within_domains and 2 * sum(size for size in sizes if size >= ways[0]) < available:
        logger.warning("validation episodes are not kept within domains: too few of these have %d classes", ways[0])
        within_domains = 0.0
    return EpisodeSampler(split.validation, ways, k_shot, n_query, seed + 1, within_domains=within_domains)


def _is_bundled(corpus: Corpus) -> bool:
    # Not by its name alone, which is what messages call it and anybody's to choose.
    return corpus.name in BUNDLED and corpus.fingerprint == Corpus.load(corpus.name).fingerprint


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    return {name: version(name) for name in ("metawarp", "torch", "transformers", "numpy", "scikit-learn")}
