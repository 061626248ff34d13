"""A labelled corpus, and its split into classes for meta-training, validation and test."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from episodes.class_words import alike, class_words
from episodes.cleaning import domain_of_classes, is_text, require_texts, usable_rows
from episodes.errors import InputError, listing, quoted, repeated, require_choice
from episodes.files import FileFormat
from episodes.paths import user_path
from episodes.reading import read_table
from episodes.splits import PARTS, class_partition, require_disjoint
from episodes.writing import write_text

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Labelled texts, validated once and never changed.

    Attributes:
        texts: n non-empty texts, unchanged.
        labels: (n,) int64, index of each text's class in `class_names`; read-only.
        class_names: C >= 2 different non-empty names. A class may have no texts (zero-shot tasks).
        name: name of the corpus in messages.
        domains: domain of each of the C classes; empty if domains are unknown.
        named: whether a model may use the class names, for all of them or for each; it knows the other classes by their
            texts alone.
        n_duplicates: number of texts that equal an earlier one, surrounding white space aside; 0 after `load`.

    Raises:
        InputError: the lengths differ, a label is out of range, a text is empty or not a string, a class name is empty
            or duplicated, there are fewer than 2 classes, or the number of domains is not that of the classes.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str = "corpus"
    domains: tuple[str, ...] = ()
    named: bool | tuple[bool, ...] = True
    n_duplicates: int = field(init=False)

    def __post_init__(self) -> None:
        # Copies, which nobody else can change.
        for name in ("texts", "class_names", "domains"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        labels = np.array(self.labels, dtype=np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        if labels.shape != (len(self.texts),):
            raise InputError(f"{self.name}: {len(self.texts)} texts need as many labels; got the shape {labels.shape}.")
        if self.n_classes < 2:
            given = quoted(self.class_names) or "none"
            raise InputError(f"{self.name} needs at least 2 classes; its classes are: {given}.")
        if unusable := [name for name in self.class_names if not is_text(name)]:
            needed = "class names must be non-empty strings of valid Unicode"
            raise InputError(f"{self.name}: {needed}; these are not: {quoted(unusable)}.")
        if duplicates := repeated(self.class_names):
            raise InputError(f"{self.name}: these class names appear twice: {quoted(duplicates)}.")
        if self.domains and len(self.domains) != self.n_classes:
            raise InputError(f"{self.name}: {self.n_classes} classes need as many domains; got {len(self.domains)}.")
        if len(outside := labels[(labels < 0) | (labels >= self.n_classes)]):
            allowed = f"0 to {self.n_classes - 1}, one for each class name"
            raise InputError(f"{self.name}: labels must be {allowed}; these are not: {listing(outside, 5)}.")
        require_texts(self.texts, self.name)
        object.__setattr__(self, "n_duplicates", len(self.texts) - len({text.strip() for text in self.texts}))

    @classmethod
    def load(
        cls,
        source: "str | Path | Dataset | DatasetDict",
        text_column: str = "text",
        label_column: str = "label",
        *,
        domain_column: str | None = None,
        subset: str | None = None,
        dataset_split: str | None = None,
        conflicts: Literal["drop", "refuse"] = "drop",
        ignore_names: bool = False,
        delimiter: str | None = None,
        encoding: str | None = None,
        no_header: bool = False,
    ) -> Self:
        """A corpus of labelled texts without duplicates.

        Class names are the names of a ClassLabel column in their order; otherwise the different labels, sorted, with
        integers as their digits. Duplicates of a text (compared without surrounding white space) and classes left
        without texts are dropped, which is logged.

        Args:
            source: "everyday", "varied" or "lengthy" (bundled), a .csv, .tsv, .json, .jsonl or .parquet file, also
                packed as .gz, a Hub id, or a `datasets.Dataset` / `DatasetDict`.
            text_column: name of the column of texts.
            label_column: name of the column of labels: strings, integers, or a ClassLabel.
            domain_column: name of the column of domains, one per class (see `EpisodeSampler`). Bundled corpora have
                their own.
            subset: name of the configuration of a Hub data set.
            dataset_split: name of the split of a Hub data set (None: "train") or of a DatasetDict (no default).
            conflicts: treatment of a text that has two labels: "drop" drops all its copies, "refuse" is an error.
            ignore_names: whether the class names are ignored, because they do not describe the texts.
            delimiter: separator of the cells of a .csv or .tsv file, such as ";" or "tab"; None: what separates the
                columns in its first line.
            encoding: encoding of a text file, such as "cp1252"; None: UTF-8, or what the byte order mark at its
                beginning says.
            no_header: whether the first line of a .csv or .tsv file has data, and not the names of the columns; these
                are then called "1", "2", …, and the first two are texts and labels unless others are named.

        Raises:
            InputError: the source cannot be read, has no rows, unusable ones (counted from 1, without the header) or
                refused conflicts, lacks a column, or has fewer than 2 classes.
        """
        require_choice("conflicts", conflicts, ("drop", "refuse"))
        form = FileFormat(delimiter, encoding, no_header)
        table = read_table(source, text_column, label_column, subset, dataset_split, domain_column, form)
        labels, kept = usable_rows(table.texts, table.labels, table.name, conflicts == "refuse")
        used = {labels[row] for row in kept}
        order = table.class_order or sorted(set(labels))
        names = tuple(name for name in order if name in used)
        if unused := [name for name in order if name not in used]:
            logger.info("%s: dropped classes without texts: %s", table.name, quoted(unused))
        for group in alike(names):
            logger.warning("%s: these classes have almost the same name: %s", table.name, quoted(group))
        index = {name: i for i, name in enumerate(names)}
        domains = () if table.domains is None else domain_of_classes(names, labels, table.domains, table.name)
        numbers = np.array([index[labels[row]] for row in kept])
        texts = tuple(table.texts[row] for row in kept)
        return cls(texts, numbers, names, table.name, domains, not ignore_names)

    def __repr__(self) -> str:
        return f"<Corpus {self.name!r}: {len(self):,} texts of {self.n_classes} classes>"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """The number of classes C."""
        return len(self.class_names)

    @cached_property
    def class_words(self) -> tuple[str | None, ...]:
        """What a model reads of each class name, such as "play music" of `playMusic`; None if it carries no meaning."""
        named = (self.named,) * self.n_classes if isinstance(self.named, bool) else self.named
        words = class_words(self.class_names)
        return tuple(word if may_mean else None for word, may_mean in zip(words, named, strict=True))

    @property
    def unnamed(self) -> list[str]:
        """The names of the classes whose names carry no meaning."""
        return [name for name, words in zip(self.class_names, self.class_words, strict=True) if words is None]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any text, label, class name or their order, but not with domains."""
        content = json.dumps([self.class_names, self.labels.tolist(), self.texts])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        # A stable sort by class, split where the class changes: one pass instead of one per class.
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.labels, minlength=self.n_classes))[:-1])

    def rows_of(self, class_index: int) -> np.ndarray:
        """Indices of the texts of one class, ascending, int64, shape (number of its texts,)."""
        return self._rows[class_index]

    def select_classes(self, names: Iterable[str], *, name: str | None = None) -> "Corpus":
        """The corpus of some classes alone; InputError if a name is unknown, or fewer than 2 classes are named.

        Texts and classes keep their order, so that the order of the names in a file never changes an episode. In
        messages, the new corpus has the given name; None: that of this one.
        """
        wanted = dict.fromkeys(names)
        if unknown := [class_name for class_name in wanted if class_name not in self.class_names]:
            raise InputError(f"{self.name} has no classes {quoted(unknown)}.")
        classes = [i for i, class_name in enumerate(self.class_names) if class_name in wanted]
        rows = np.flatnonzero(np.isin(self.labels, classes))
        texts, labels = tuple(self.texts[row] for row in rows), np.searchsorted(classes, self.labels[rows])
        class_names = tuple(self.class_names[i] for i in classes)
        domains = tuple(self.domains[i] for i in classes) if self.domains else ()
        return Corpus(texts, labels, class_names, self.name if name is None else name, domains, self.named)

    def split_classes(
        self, recipe: Sequence[float] | Mapping[str, Sequence[str]] | str | Path, seed: int = 0
    ) -> "ClassSplit":
        """Three corpora that share no class: for meta-training, validation and test.

        Args:
            recipe: three fractions (train, validation, test) that add up to 1, drawn at random; or the lists "train",
                "validation" and "test" of class names, as a dict or in a splits.json file; or the name of a bundled
                corpus, for its own split.
            seed: seed of the random draw; a recipe that names the classes does not use it.

        Raises:
            InputError: the parts overlap, name unknown classes, leave a class out, or have fewer than 2 classes; or
                the file cannot be read.
        """
        names = class_partition(self.class_names, recipe, seed, self.name)
        train, validation, test = (self.select_classes(names[part], name=f"{self.name}[{part}]") for part in PARTS)
        return ClassSplit(train, validation, test)


@dataclass(frozen=True, eq=False)
class ClassSplit:
    """Three corpora that share no class name (InputError otherwise): for meta-training, for choosing settings, and for
    reported results. `split["test"]` is `split.test`."""

    train: Corpus
    validation: Corpus
    test: Corpus

    def __post_init__(self) -> None:
        require_disjoint(self.names())

    def __getitem__(self, part: str) -> Corpus:
        """The part "train", "validation" or "test"; InputError for any other name."""
        if part not in PARTS:
            raise InputError(f"A split has the parts {listing(PARTS)}; {part!r} is not one of them.")
        return getattr(self, part)

    def names(self) -> dict[str, list[str]]:
        """The class names of each part, in the order of the corpus."""
        return {part: list(self[part].class_names) for part in PARTS}

    def to_json(self, path: str | Path) -> None:
        """Write the class names as a splits.json that `Corpus.split_classes` reads, whole or not at all."""
        write_text(user_path(path), json.dumps(self.names(), ensure_ascii=False, indent=1) + "\n")
