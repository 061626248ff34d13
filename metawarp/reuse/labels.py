"""What people hand to an estimator, as lists that can be relied on: texts, labels, classes and their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes import Episode, InputError
from episodes.cleaning import refuse_unusable_texts

_A_NUMBER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Examples:
    """The few examples of a new task.

    Attributes:
        episode: texts and labels as a support set.
        classes: C labels, in the order of the episode's classes.
        named: whether the episode's class names mean anything; they are the labels as text where not.
    """

    episode: Episode
    classes: list[Any]
    named: bool

    @classmethod
    def of(cls, texts: Any, labels: Any, class_names: Any) -> Examples:
        """Examples from what `WarpClassifier.fit` is given.

        Raises:
            InputError: see there.
        """
        texts, labels = text_list(texts), label_list(labels)
        if len(texts) != len(labels):
            raise InputError(f"fit got {len(texts)} texts and {len(labels)} labels; it needs one label for each text.")
        classes, names = classes_and_names(labels, class_names)
        number = {label: i for i, label in enumerate(classes)}
        episode = Episode.from_texts(names or list(map(str, classes)), texts, [number[label] for label in labels])
        return cls(episode, classes, named=names is not None)


def text_list(texts: Any) -> list[str]:
    """The texts, from any iterable but a single string.

    Raises:
        InputError: a single string, or no list at all; a table, or something without an order; a text that is missing,
            empty or no string.
    """
    if isinstance(texts, str):
        raise InputError(f"one text came where a list of texts is needed: [{texts[:40]!r}].")
    if not isinstance(texts, Iterable):
        raise InputError(f"a {type(texts).__name__} came where a list of texts is needed.")
    # A data frame would be read as the names of its columns.
    if len(getattr(texts, "shape", (0,))) != 1 or isinstance(texts, Mapping | Set):
        kind = type(texts).__name__
        raise InputError(f'a {kind} came where a list of texts is needed; give one column, such as table["text"].')
    found = list(texts)
    refuse_unusable_texts(found, "the list of texts")
    return [str(text) for text in found]


def label_list(labels: Any) -> list[Any]:
    """The labels as Python strings or Python integers, from any iterable.

    Raises:
        InputError: no list; other types, or both at once.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InputError(f"a {type(labels).__name__} came where a list of labels is needed, one for each text.")
    # Label by label: numpy would turn ["a", 1] into two strings, and ["a", nan] too.
    found = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if not (all(isinstance(label, str) for label in found) or all(type(label) is int for label in found)):
        kinds = sorted({type(label).__name__ for label in found})
        raise InputError(f"labels must be all strings or all integers; these are of type {', '.join(kinds)}.")
    return found


def classes_and_names(labels: list[Any], class_names: Any) -> tuple[list[Any], list[str] | None]:
    """Labels of all classes, sorted or in the order of the names; and their names, None where they have none.

    Args:
        labels: of the texts.
        class_names: see `WarpClassifier.fit`.

    Raises:
        InputError: fewer than 2 classes; labels that have no name among those given; names that are no list.
    """
    if isinstance(class_names, str):
        raise InputError(f"one class name came where a list of names is needed: [{class_names!r}].")
    if isinstance(class_names, Mapping):
        label_list(class_names)
        classes, names = sorted(class_names), [class_names[label] for label in sorted(class_names)]
    elif class_names is not None:
        names = list(class_names)
        classes = list(range(len(names))) if labels and isinstance(labels[0], int) else names
    else:
        classes = sorted(set(labels))
        # "0" and "1", as a .csv file has integers, say no more than 0 and 1.
        names = classes if any(isinstance(label, str) and not _A_NUMBER.fullmatch(label) for label in classes) else None
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise InputError(f"labels {unknown} are not among the class names given: {classes}.")
    if len(classes) < 2:
        raise InputError(f"a classifier needs 2 classes at least; this task has {len(classes)}: {classes}.")
    return classes, names
