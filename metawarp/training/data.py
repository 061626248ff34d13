"""What an init is meta-trained on: one corpus or several, each with its own class split."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from episodes import ClassSplit, Corpus, EpisodeSampler
from episodes.errors import InputError, quoted
from episodes.protocol import SPLITS_FILE, SplitSource, class_split, validation_sampler
from episodes.sampler import MixtureSampler, Range, Sampler, bounds
from episodes.splits import PARTS

logger = logging.getLogger(__name__)

Source = str | Path | Corpus
"""A corpus, or the file or name that it is loaded from."""


@dataclass(frozen=True)
class EpisodeSettings:
    """Settings of the training episodes; see `EpisodeSampler`."""

    n_way: Range
    k_shot: Range
    n_query: int
    seed: int
    balanced: bool = True
    within_domains: float = 0.0
    n_unlabelled: Range = 0
    distractors: float = 0.0
    skew: float = 1.0

    def unlabelled(self, part: Corpus) -> dict[str, Any]:
        """The settings of the unlabelled texts, without distractors if a corpus has no further classes for them."""
        has_others = part.n_classes > bounds(self.n_way)[1]
        distractors = self.distractors if has_others else 0.0
        return {"n_unlabelled": self.n_unlabelled, "distractors": distractors, "skew": self.skew}


@dataclass(frozen=True)
class TrainingData:
    """Corpora, at least one, and the class split of each; create one with `load`."""

    corpora: tuple[Corpus, ...]
    splits: tuple[ClassSplit, ...]

    @classmethod
    def load(cls, sources: Sequence[Source], splits: Sequence[SplitSource] | None = None, seed: int = 0) -> Self:
        """Load corpora, if they are not loaded, and split their classes; InputError if one cannot be used.

        Splits are a splits.json, or its content, for each corpus; None: see `episodes.protocol.class_split`.
        """
        if splits is not None and len(splits) != len(sources):
            raise InputError(f"splits has {len(splits)} entries for {len(sources)} corpora; give one for each.")
        corpora = tuple(source if isinstance(source, Corpus) else Corpus.load(source) for source in sources)
        recipes = [None] * len(corpora) if splits is None else splits
        data = cls(corpora, tuple(class_split(c, recipe, seed) for c, recipe in zip(corpora, recipes, strict=True)))
        names = data.class_names()
        trained = set(names["train"])
        leaks = [name for name in (*names["validation"], *names["test"]) if name in trained]
        if len(corpora) > 1 and leaks:
            message = "%d classes are trained on in one corpus and held out in another (%s)"
            logger.warning(message, len(leaks), quoted(leaks, 3))
        return data

    def sampler(self, settings: EpisodeSettings) -> Sampler:
        """Meta-training episodes. Each comes from one corpus, chosen in proportion to its number of classes.

        Among several corpora, one that is too small for the ways and shots uses fewer, and one without domains ignores
        `within_domains`.
        """
        parts, samplers = [split.train for split in self.splits], []
        for part in parts:
            ways, balanced, within = settings.n_way, settings.balanced, settings.within_domains
            shots = _shots_without_names(part, settings.k_shot)
            if len(parts) > 1:
                ways, shots = _at_most(ways, part.n_classes), _feasible_shots(part, shots, settings.n_query)
                if (ways, shots) != (bounds(settings.n_way), bounds(settings.k_shot)):
                    logger.warning("%s: episodes have %d to %d ways and %d to %d shots", part.name, *ways, *shots)
                balanced = balanced or shots[0] == shots[1]
                within = 0.0 if not part.domains and any(other.domains for other in parts) else within
            sizes = ways, shots, settings.n_query
            further = {"balanced": balanced, "within_domains": within, **settings.unlabelled(part)}
            samplers.append(EpisodeSampler(part, *sizes, settings.seed, **further))
        return _mixture(samplers, settings.seed)

    def validation(self, settings: EpisodeSettings) -> Sampler:
        """Episodes over the validation classes; see `episodes.protocol.validation_sampler`."""
        samplers, within = [], settings.within_domains
        for split in self.splits:
            shots = _shots_without_names(split.validation, settings.k_shot)
            if len(self.splits) > 1:
                shots = _feasible_shots(split.validation, shots, settings.n_query)
            sizes = settings.n_way, shots, settings.n_query
            unlabelled = settings.unlabelled(split.validation)
            samplers.append(validation_sampler(split, *sizes, settings.seed, within_domains=within, **unlabelled))
        return _mixture(samplers, settings.seed + 1)

    def class_names(self) -> dict[str, list[str]]:
        """The class names of all corpora by part, each once."""
        names = {part: [name for split in self.splits for name in split[part].class_names] for part in PARTS}
        return {part: list(dict.fromkeys(several)) for part, several in names.items()}

    def texts(self) -> list[str]:
        """All texts and class names that training and validation read."""
        parts = [part for split in self.splits for part in (split.train, split.validation)]
        return [*(text for part in parts for text in part.texts), *filter(None, self.all_words())]

    def all_words(self) -> list[str | None]:
        """What the names of all classes say, test classes included; see `Corpus.class_words`."""
        named = (pair for corpus in self.corpora for pair in zip(corpus.class_names, corpus.class_words, strict=True))
        return [words for _, words in dict.fromkeys(named)]  # corpora may have classes of the same name

    def record(self) -> dict[str, Any]:
        """The entries of the training record about the data."""
        names, fingerprints = self.class_names(), " + ".join(corpus.fingerprint for corpus in self.corpora)
        record = {"corpus": " + ".join(corpus.name for corpus in self.corpora), "corpus_fingerprint": fingerprints}
        return record | {"classes": {part: len(names[part]) for part in PARTS}, "class_names": names}

    def write_splits(self, folder: Path) -> None:
        """Write the split of each corpus into a file of `split_files`."""
        for file, split in zip(split_files(len(self.splits)), self.splits, strict=True):
            split.to_json(folder / file)


def split_files(number: int) -> list[str]:
    """Names of the files with the splits of so many corpora: splits.json, or splits-1.json, splits-2.json, …"""
    stem = Path(SPLITS_FILE).stem
    return [SPLITS_FILE] if number == 1 else [f"{stem}-{i}.json" for i in range(1, number + 1)]


def _mixture(samplers: Sequence[EpisodeSampler], seed: int) -> Sampler:
    if len(samplers) == 1:
        return samplers[0]
    return MixtureSampler(samplers, [sampler.corpus.n_classes for sampler in samplers], seed)


def _shots_without_names(part: Corpus, shots: Range) -> Range:
    """The requested shots, of which there is at least one if some class has no name that carries meaning.

    InputError if none was requested.
    """
    low, high = bounds(shots)
    if low or not (unnamed := part.unnamed):
        return shots
    problem = f"{part.name}: tasks without texts need names that carry meaning, and these do not: {quoted(unnamed, 3)}"
    if not high:
        raise InputError(f"{problem}; raise k_shot.")
    logger.warning("%s; every task has at least one text per class", problem)
    return (1, high)


def _feasible_shots(part: Corpus, shots: Range, n_query: int) -> tuple[int, int]:
    """The shots, limited by the texts that the smallest class has beside its queries."""
    return _at_most(shots, max(int(np.bincount(part.labels).min()) - n_query, 0))


def _at_most(number: Range, largest: int) -> tuple[int, int]:
    low, high = bounds(number)
    return min(low, largest), min(high, largest)
