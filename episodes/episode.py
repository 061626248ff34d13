"""An episode: one N-way K-shot task, as row numbers into its corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from episodes.cleaning import refuse_unusable_texts
from episodes.corpus import Corpus
from episodes.errors import InputError, listing


@dataclass(frozen=True, eq=False)
class Episode:
    """A task with N classes: labelled support texts to adapt on, query texts to be measured on.

    It holds numbers; texts are looked up when they are asked for.

    Attributes:
        corpus: where the texts and the class names are.
        class_indices: (N,) int64, the episode's classes in its own order, as indices into
            `corpus.class_names`.
        support: (n_support,) int64, rows of the corpus; empty in a zero-shot task.
        support_labels: (n_support,) int64 in 0 .. N-1, positions in `class_indices`.
        query: (n_query,) int64, rows of the corpus, none of them in `support`.
        query_labels: (n_query,) int64 in 0 .. N-1.

    Raises:
        InputError: a row is support and query at once.
    """

    corpus: Corpus
    class_indices: np.ndarray
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray

    def __post_init__(self) -> None:
        """Refuse an episode that asks about what it has shown."""
        both = np.intersect1d(self.support, self.query)
        if len(both):
            raise InputError(f"These rows are support and query at once: {listing(both)}; a row can be one of them.")

    @classmethod
    def from_texts(
        cls,
        class_names: Sequence[str],
        support_texts: Sequence[str] = (),
        support_labels: Sequence[int] = (),
        query_texts: Sequence[str] = (),
        query_labels: Sequence[int] = (),
    ) -> Episode:
        """The task of somebody who has class names and a few texts; nothing is dropped or reordered.

        Args:
            class_names: N >= 2 different names; their order is the labels'.
            support_texts: labelled texts; none for a zero-shot task.
            support_labels: for each support text the index of its name.
            query_texts: texts to classify.
            query_labels: for each query text the index of its name.

        Raises:
            InputError: fewer than 2 names; an empty name, or one that stands twice; a text that is empty or
                no string; a label that is no index of a name; or labels and texts of different numbers.
        """
        n_way = len(class_names)
        for kind, texts, labels in (
            ("support", support_texts, support_labels),
            ("query", query_texts, query_labels),
        ):
            if len(texts) != len(labels):
                raise InputError(f"There are {len(texts)} {kind} texts, but {len(labels)} labels for them.")
            refuse_unusable_texts(texts, f"The {kind} texts")
            outside = [label for label in labels if label not in range(n_way)]
            if outside:
                raise InputError(
                    f"The {kind} labels must be whole numbers from 0 to {n_way - 1}, one for each name; "
                    f"these are not: {listing(outside, 5)}."
                )
        labels = np.array([*support_labels, *query_labels], dtype=np.int64)
        corpus = Corpus((*support_texts, *query_texts), labels, tuple(class_names), name="The task")
        support, query = np.split(np.arange(len(labels)), [len(support_texts)])
        return cls(corpus, np.arange(n_way), support, labels[support], query, labels[query])

    @property
    def n_way(self) -> int:
        """The number of classes, N."""
        return len(self.class_indices)

    @property
    def shots(self) -> np.ndarray:
        """(N,) int64, the number of support texts of each class."""
        return np.bincount(self.support_labels, minlength=self.n_way)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The N names in the episode's order."""
        return tuple(self.corpus.class_names[i] for i in self.class_indices)

    @property
    def support_texts(self) -> tuple[str, ...]:
        """The support texts, one for each of `support_labels`."""
        return tuple(self.corpus.texts[row] for row in self.support)

    @property
    def query_texts(self) -> tuple[str, ...]:
        """The query texts, one for each of `query_labels`."""
        return tuple(self.corpus.texts[row] for row in self.query)
