"""The labels that a user gives for some texts of a pool, and the texts that are left to suggest, both checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from episodes.cleaning import is_blank
from episodes.errors import InputError, quoted
from metawarp.tasks.examples import list_of_texts
from metawarp.tasks.labels import list_of_labels


@dataclass(frozen=True)
class LabelledPool:
    """A pool of texts, some of which have a label.

    Attributes:
        texts: all texts, as strings.
        rows: indices of the texts that are looked at: the labelled ones first, then the first of every text that is
            neither without content nor a copy of another one.
        labels: labels of the first of these rows.
    """

    texts: list[str]
    rows: list[int]
    labels: list[Any]

    @classmethod
    def of(cls, texts: Any, labelled: Any) -> Self:
        """The pool of the arguments of `suggest`, with its errors."""
        texts = list_of_texts(texts, blanks=True)
        labelled = {} if labelled is None else labelled
        if not isinstance(labelled, Mapping):
            needed = "a mapping from the index of a text to its label, such as {0: 'refund'}"
            raise InputError(f"labelled must be {needed}, not {type(labelled).__name__}.")
        if wrong := [one for one in labelled if not _is_index(one, len(texts))]:
            allowed = f"integers from 0 to {len(texts) - 1}, one for each text" if texts else "those of texts"
            raise InputError(f"labelled has the indices {quoted(wrong, 5)}, but indices are {allowed}; correct them.")
        if blank := [one for one in labelled if is_blank(texts[one])]:
            problem = f"labelled has labels for texts without content, at the indices {quoted(blank, 5)}"
            raise InputError(f"{problem}; leave these out.")
        rows, labels = [int(one) for one in labelled], list_of_labels(labelled.values())
        seen = {texts[row].strip() for row in rows}
        for row, text in enumerate(texts):
            if not is_blank(text) and text.strip() not in seen:
                seen.add(text.strip())
                rows.append(row)
        return cls(texts, rows, labels)

    def require(self, n: Any) -> None:
        """Check that n texts can be suggested; InputError gives the numbers if they cannot."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise InputError(f"n={n!r} must be an integer of at least 1.")
        left = len(self.rows) - len(self.labels)
        if n > left:
            facts = f"{len(self.texts)} texts, of which {len(self.labels)} are labelled"
            unusable = f"{len(self.texts) - len(self.rows)} are copies or have no content"
            advice = "give a smaller n or more texts" if left else "give more texts"
            raise InputError(f"n={n} texts cannot be suggested from {facts} and {unusable}: {left} are left; {advice}.")

    @property
    def used_texts(self) -> list[str]:
        """The texts of the rows."""
        return [self.texts[row] for row in self.rows]


def _is_index(key: Any, number: int) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= int(key) < number
