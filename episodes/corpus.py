"""A labelled corpus: texts, one class each, and the names of the classes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from episodes.cleaning import domains_of, refuse_unusable_texts, usable_rows
from episodes.errors import InputError, listing
from episodes.reading import read_table
from episodes.splits import PARTS, class_partition, refuse_overlap

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Labelled texts, validated once and never changed.

    Attributes:
        texts: n texts, none empty, as they came.
        labels: (n,) int64, the index of each text's class in `class_names`; read-only.
        class_names: C >= 2 different names, none empty. A class may be without texts: a zero-shot task is.
        name: what messages call the corpus.
        domains: the domain that each of the C classes belongs to; empty where nothing is known of domains.
        n_copies: texts that stand there already, surrounding white space aside; 0 after `load`.

    Raises:
        InputError: the lengths differ, a label is out of range, a text is empty or no string, a class name is
            empty or stands twice, there are fewer than 2 classes, or domains are given and not one for each class.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str = "corpus"
    domains: tuple[str, ...] = ()
    n_copies: int = field(init=False)

    def __post_init__(self) -> None:
        """Validate, and keep copies that nobody else can change."""
        object.__setattr__(self, "texts", tuple(self.texts))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "domains", tuple(self.domains))
        labels = np.array(self.labels, dtype=np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        if labels.shape != (len(self.texts),):
            raise InputError(f"{self.name} has {len(self.texts)} texts, but its labels have the shape {labels.shape}.")
        if self.n_classes < 2:
            names = listing(map(repr, self.class_names)) or "none"
            raise InputError(f"{self.name} needs at least 2 classes; its classes are: {names}.")
        nameless = [i for i, name in enumerate(self.class_names) if not isinstance(name, str) or not name.strip()]
        if nameless:
            raise InputError(f"{self.name}: the class names with these indices are empty: {listing(nameless)}.")
        if len(set(self.class_names)) < self.n_classes:
            twice = [name for i, name in enumerate(self.class_names) if name in self.class_names[:i]]
            raise InputError(f"{self.name}: these class names stand twice: {listing(map(repr, twice))}.")
        if self.domains and len(self.domains) != self.n_classes:
            raise InputError(f"{self.name} has {self.n_classes} classes, but {len(self.domains)} domains of classes.")
        outside = np.flatnonzero((labels < 0) | (labels >= self.n_classes))
        if len(outside):
            raise InputError(
                f"{self.name}: labels must be 0 to {self.n_classes - 1}, one for each class name; "
                f"these are not: {listing(labels[outside], 5)}."
            )
        refuse_unusable_texts(self.texts, self.name)
        object.__setattr__(self, "n_copies", len(self.texts) - len({text.strip() for text in self.texts}))

    @classmethod
    def load(
        cls,
        source: str | Path | Dataset | DatasetDict,
        text_column: str = "text",
        label_column: str = "label",
        *,
        domain_column: str | None = None,
        subset: str | None = None,
        split: str | None = None,
        conflicts: Literal["drop", "refuse"] = "drop",
    ) -> Corpus:
        """A corpus from labelled texts, without duplicates.

        Class names are the names of a ClassLabel column in their order, otherwise the different labels,
        sorted, where whole numbers count as their digits. Copies of a text under one label (compared without
        surrounding white space) are dropped but for the first; classes left without texts are dropped. Both
        are logged.

        Args:
            source: "everyday", "varied" or "lengthy" (bundled), a .csv, .tsv, .json, .jsonl or .parquet file in UTF-8,
                the id of a Hub data set, or a `datasets.Dataset` / `DatasetDict`.
            text_column: the column of texts.
            label_column: the column of labels: strings, whole numbers, or a ClassLabel.
            domain_column: the column of domains, of which each class has one; see `EpisodeSampler`. Bundled corpora
                have their own.
            subset: a Hub data set's configuration.
            split: a Hub data set's split ("train" where it is None), or that of a DatasetDict (no default).
            conflicts: what happens to a text that stands under two labels: "drop" drops all its copies,
                "refuse" raises.

        Raises:
            InputError: the source cannot be read, lacks a column or is empty; texts or labels are missing,
                empty or of another type (their rows are named, counted from 1 without the header); fewer
                than 2 classes are left; or texts are in conflict and these are refused.
        """
        if conflicts not in ("drop", "refuse"):
            raise InputError(f"conflicts must be 'drop' or 'refuse'; it is {conflicts!r}.")
        table = read_table(source, text_column, label_column, subset, split, domain_column)
        labels, kept = usable_rows(table.texts, table.labels, table.name, conflicts == "refuse")
        used = {labels[row] for row in kept}
        order = table.class_order or sorted(set(labels))
        names = tuple(name for name in order if name in used)
        if len(names) < len(order):
            lost = listing(repr(name) for name in order if name not in used)
            logger.info("%s: dropped classes without texts: %s", table.name, lost)
        index = {name: i for i, name in enumerate(names)}
        numbers = np.array([index[labels[row]] for row in kept], dtype=np.int64)
        domains = domains_of(names, labels, table.domains, table.name) if table.domains is not None else ()
        return cls(tuple(table.texts[row] for row in kept), numbers, names, table.name, domains)

    def __repr__(self) -> str:
        return f"<Corpus {self.name!r}: {len(self):,} texts of {self.n_classes} classes>"

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """The number of classes, C."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any text, label, class name or their order; not with domains."""
        content = json.dumps([self.class_names, self.labels.tolist(), self.texts])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        # A stable sort by class, cut where the class changes: one pass instead of one for each class.
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.labels, minlength=self.n_classes))[:-1])

    def rows_of(self, class_index: int) -> np.ndarray:
        """The rows of one class's texts in ascending order, int64, shape (number of its texts,)."""
        return self._rows[class_index]

    def select_classes(self, names: Iterable[str], *, name: str | None = None) -> Corpus:
        """The corpus of these classes alone, its texts and classes in the order they have here.

        Args:
            names: class names of this corpus, in any order, so that the order of a file never changes an
                episode.
            name: what messages call the new corpus; this one's name where it is None.

        Raises:
            InputError: a name is unknown, or fewer than 2 classes are named.
        """
        wanted = dict.fromkeys(names)
        unknown = [repr(unknown) for unknown in wanted if unknown not in self.class_names]
        if unknown:
            raise InputError(f"{self.name} has no classes {listing(unknown)}.")
        classes = [i for i, class_name in enumerate(self.class_names) if class_name in wanted]
        rows = np.flatnonzero(np.isin(self.labels, classes))
        return Corpus(
            texts=tuple(self.texts[row] for row in rows),
            labels=np.searchsorted(classes, self.labels[rows]),
            class_names=tuple(self.class_names[i] for i in classes),
            name=self.name if name is None else name,
            domains=tuple(self.domains[i] for i in classes) if self.domains else (),
        )

    def split_classes(
        self, recipe: Sequence[float] | Mapping[str, Sequence[str]] | str | Path, seed: int = 0
    ) -> ClassSplit:
        """Three corpora, of the classes to meta-train, validate and test on, that share no class.

        Args:
            recipe: three fractions (train, validation, test) that add up to 1, drawn at random from `seed`;
                or the lists "train", "validation" and "test" of class names, as a dict or a splits.json file
                that holds them; or "everyday" and the like, the lists that come with a bundled corpus.
            seed: of the random draw; unused where the recipe names the classes.

        Raises:
            InputError: the parts overlap, name unknown classes, leave a class out, or have fewer than 2
                classes; or the file cannot be read. The names in question are listed.
        """
        names = class_partition(self.class_names, recipe, seed, self.name)
        train, validation, test = (self.select_classes(names[part], name=f"{self.name}[{part}]") for part in PARTS)
        return ClassSplit(train, validation, test)


@dataclass(frozen=True, eq=False)
class ClassSplit:
    """Three corpora that share no class name; `split["test"]` is `split.test`.

    Attributes:
        train: the classes to meta-train on.
        validation: the classes to choose settings on.
        test: the classes to report on.

    Raises:
        InputError: a class name stands in two parts.
    """

    train: Corpus
    validation: Corpus
    test: Corpus

    def __post_init__(self) -> None:
        """Refuse a class in two parts: an accuracy on classes seen in training would mean nothing."""
        refuse_overlap(self.names())

    def __getitem__(self, part: str) -> Corpus:
        """One of the parts "train", "validation" and "test"; InputError for any other name."""
        if part not in PARTS:
            raise InputError(f"A split has the parts {listing(PARTS)}; {part!r} is none of them.")
        return getattr(self, part)

    def names(self) -> dict[str, list[str]]:
        """The class names of each part, in the corpus's order."""
        return {part: list(self[part].class_names) for part in PARTS}

    def to_json(self, path: str | Path) -> None:
        """Write the class names as a splits.json that `Corpus.split_classes` takes."""
        Path(path).write_text(json.dumps(self.names(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
