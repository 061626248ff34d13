"""An episode: one N-way K-shot task, as row indices into its corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np

from episodes.cleaning import require_texts
from episodes.corpus import Corpus
from episodes.errors import InputError, listing


@dataclass(frozen=True, eq=False)
class Episode:
    """A task of N classes: labelled support texts to adapt on, and query texts to evaluate on.

    Attributes:
        corpus: corpus of the texts and class names.
        class_indices: (N,) int64, the classes in the episode's own order, as indices into `corpus.class_names`.
        support: (n_support,) int64, rows of the corpus; empty in a zero-shot task.
        support_labels: (n_support,) int64 in 0 … N-1, positions in `class_indices`.
        query: (n_query,) int64, rows of the corpus, none of them in `support` (InputError otherwise).
        query_labels: (n_query,) int64 in 0 … N-1.
        unlabelled: (n_unlabelled,) int64, rows of the corpus that are neither support nor query, of classes that a
            method must not look at.
        unknown: (n_unknown,) int64, rows of the corpus that belong to no class of the episode and are in none of its
            other parts, to measure whether a method recognizes them.
    """

    corpus: Corpus
    class_indices: np.ndarray
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray
    unlabelled: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    unknown: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __post_init__(self) -> None:
        parts = {"support": self.support, "query": self.query, "unlabelled": self.unlabelled}
        parts["unknown"] = self.unknown
        for (name, rows), (other, other_rows) in combinations(parts.items(), 2):
            if len(both := np.intersect1d(rows, other_rows)):
                problem = f"These rows are both {name} and {other}: {listing(both)}"
                raise InputError(f"{problem}; a row can only be one of them.")

    @classmethod
    def from_texts(
        cls,
        class_names: Sequence[str],
        support_texts: Sequence[str] = (),
        support_labels: Sequence[int] = (),
        query_texts: Sequence[str] = (),
        query_labels: Sequence[int] = (),
        *,
        unlabelled_texts: Sequence[str] = (),
        named: bool | Sequence[bool] = True,
    ) -> Self:
        """A task from class names and texts; nothing is dropped or reordered.

        Args:
            class_names: N >= 2 different names, in the order of the labels.
            support_texts: labelled texts; none for a zero-shot task.
            support_labels: index of each support text's class name.
            query_texts: texts to classify.
            query_labels: index of each query text's class name.
            unlabelled_texts: texts without labels; in the episode's corpus, they have the label 0.
            named: whether class names may carry meaning, for all of them or for each; no model reads the others.

        Raises:
            InputError: fewer than 2 names, an unusable name or text, a label that is not the index of a name, or
                different numbers of labels and texts.
        """
        n_way = len(class_names)
        for kind, texts, labels in (("support", support_texts, support_labels), ("query", query_texts, query_labels)):
            if len(texts) != len(labels):
                raise InputError(f"There are {len(texts)} {kind} texts, but {len(labels)} labels for them.")
            require_texts(texts, f"The {kind} texts")
            if outside := [label for label in labels if label not in range(n_way)]:
                allowed = f"integers from 0 to {n_way - 1}, one for each name"
                raise InputError(f"The {kind} labels must be {allowed}; these are not: {listing(outside, 5)}.")
        require_texts(unlabelled_texts, "The unlabelled texts")
        labels = np.array([*support_labels, *query_labels, *(0 for _ in unlabelled_texts)], dtype=np.int64)
        texts = (*support_texts, *query_texts, *unlabelled_texts)
        named = named if isinstance(named, bool) else tuple(named)
        corpus = Corpus(texts, labels, tuple(class_names), "The task", named=named)
        ends = len(support_texts), len(support_texts) + len(query_texts)
        support, query, unlabelled = np.split(np.arange(len(labels)), ends)
        return cls(corpus, np.arange(n_way), support, labels[support], query, labels[query], unlabelled)

    @property
    def n_way(self) -> int:
        """The number of classes N."""
        return len(self.class_indices)

    @property
    def shots(self) -> np.ndarray:
        """(N,) int64, the number of support texts of each class."""
        return np.bincount(self.support_labels, minlength=self.n_way)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The N class names in the episode's order."""
        return tuple(self.corpus.class_names[i] for i in self.class_indices)

    @property
    def class_words(self) -> tuple[str | None, ...]:
        """What a model reads of each of the N class names; None for names that carry no meaning."""
        return tuple(self.corpus.class_words[i] for i in self.class_indices)

    @property
    def named_classes(self) -> tuple[list[str], list[int]]:
        """What a model reads of the class names that carry meaning, and the classes 0 … N-1 that they belong to."""
        words = {label: text for label, text in enumerate(self.class_words) if text is not None}
        return list(words.values()), list(words)

    @property
    def support_texts(self) -> tuple[str, ...]:
        """The support texts, in the order of `support_labels`."""
        return tuple(self.corpus.texts[row] for row in self.support)

    @property
    def query_texts(self) -> tuple[str, ...]:
        """The query texts, in the order of `query_labels`."""
        return tuple(self.corpus.texts[row] for row in self.query)

    @property
    def unlabelled_texts(self) -> tuple[str, ...]:
        """The unlabelled texts."""
        return tuple(self.corpus.texts[row] for row in self.unlabelled)

    @property
    def unknown_texts(self) -> tuple[str, ...]:
        """The texts that belong to no class of the episode."""
        return tuple(self.corpus.texts[row] for row in self.unknown)

    def with_unknown(self, number: int) -> Self:
        """The same task without its last classes, so many of them, whose query texts are its unknown texts now; without
        unlabelled texts.

        InputError if fewer than 2 classes would be left.
        """
        n_way = self.n_way - number
        if number < 0 or n_way < 2:
            raise InputError(f"Of {self.n_way} classes, {number} cannot be left out: at least 2 have to stay.")
        support, query = self.support_labels < n_way, self.query_labels < n_way
        return type(self)(
            corpus=self.corpus,
            class_indices=self.class_indices[:n_way],
            support=self.support[support],
            support_labels=self.support_labels[support],
            query=self.query[query],
            query_labels=self.query_labels[query],
            unknown=self.query[~query],
        )
