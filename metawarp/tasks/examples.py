"""The texts and labels that a user passes to an estimator, as a checked support set."""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from episodes import Episode, InputError
from episodes.cleaning import require_texts

_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Examples:
    """The labelled examples of a new task: an episode with the support set, and C labels in the order of its classes.

    Unless they are `named`, the names of the classes are only the labels as text.
    """

    episode: Episode
    classes: list[Any]
    named: bool

    @classmethod
    def of(cls, texts: Any, labels: Any, class_names: Any) -> Self:
        """Examples from the arguments of `WarpClassifier.fit`, with its errors."""
        texts, labels = list_of_texts(texts), list_of_labels(labels)
        if len(texts) != len(labels):
            raise InputError(f"There are {len(texts)} texts, but {len(labels)} labels; give one label for each text.")
        classes, names = classes_and_names(labels, class_names)
        index = {label: i for i, label in enumerate(classes)}
        episode = Episode.from_texts(names or list(map(str, classes)), texts, [index[label] for label in labels])
        return cls(episode, classes, named=names is not None)


def list_of_texts(texts: Any) -> list[str]:
    """The texts of any ordered collection; InputError for anything else, or an unusable text."""
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of texts, not one string; for one text, give [{texts[:40]!r}].")
    is_table = len(getattr(texts, "shape", (0,))) != 1  # a data frame would be iterated over the names of its columns
    if is_table or isinstance(texts, Mapping | Set) or not isinstance(texts, Iterable):
        given = type(texts).__name__
        raise InputError(f'texts must be a list of texts, or one column such as table["text"], not {given}.')
    listed = list(texts)
    require_texts(listed, "texts")
    return [str(text) for text in listed]


def list_of_labels(labels: Any) -> list[Any]:
    """The labels as Python strings or Python integers; InputError if they are no list, or of other or mixed types."""
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InputError(f"labels must be a list with one label for each text, not {type(labels).__name__}.")
    # One by one: numpy would turn ["a", 1], and ["a", nan], into two strings.
    listed = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if not (all(isinstance(label, str) for label in listed) or all(type(label) is int for label in listed)):
        kinds = ", ".join(sorted({type(label).__name__ for label in listed}))
        raise InputError(f"labels must be all strings or all integers; these are of type {kinds}.")
    return listed


def classes_and_names(labels: list[Any], class_names: Any) -> tuple[list[Any], list[str] | None]:
    """The labels of all classes, sorted or in the order of the names, and their names; None if they have none.

    InputError for fewer than 2 classes, a label that is not in `class_names`, or one string as `class_names`.
    """
    if isinstance(class_names, str):
        raise InputError(f"class_names must be a list of names or a mapping, not the string {class_names!r}.")
    if isinstance(class_names, Mapping):
        classes = sorted(list_of_labels(class_names))
        names = [class_names[label] for label in classes]
    elif class_names is not None:
        names = list(class_names)
        classes = list(range(len(names))) if labels and isinstance(labels[0], int) else names
    else:
        classes = sorted(set(labels))
        # "0" and "1", as a .csv file writes integers, say no more than 0 and 1.
        is_name = any(isinstance(label, str) and not _INTEGER.fullmatch(label) for label in classes)
        names = classes if is_name else None
    if unknown := sorted(set(labels) - set(classes)):
        raise InputError(f"The labels {unknown} are not in class_names, which names the classes {classes}.")
    if len(classes) < 2:
        raise InputError(f"A classifier needs at least 2 classes; this task has {len(classes)}: {classes}.")
    return classes, names
