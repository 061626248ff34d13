"""The texts and labels that a user passes to an estimator, as a checked support set."""

import logging
from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

from episodes import Episode, InputError
from episodes.class_words import alike
from episodes.cleaning import is_blank, require_texts
from episodes.errors import quoted
from metawarp.tasks.labels import like_labels, list_of_labels, name_of

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""Default label of unknown texts."""

NO_CLASS = "(no class)"
"""Name of the examples of unknown texts, which no model reads."""

NO_NAMES = "none"
"""What a user passes as `class_names` if the labels have no names."""


@dataclass(frozen=True)
class Examples:
    """The labelled examples of a new task: an episode with the support set, and C labels in the order of its classes.

    The names of classes without names are their labels as text; no model reads them (`Episode.class_words`). If some
    texts have the label `unknown`, they are the last class of the episode, which has no label in `classes`.
    """

    episode: Episode
    classes: list[Any]
    unknown: Any = UNKNOWN

    @property
    def has_unknown(self) -> bool:
        """Whether there are examples of unknown texts."""
        return self.episode.n_way > len(self.classes)

    @classmethod
    def of(cls, texts: Any, labels: Any, class_names: Any, unlabelled: Any = None, unknown: Any = UNKNOWN) -> Self:
        """Examples from the arguments of `WarpClassifier.fit`, with its errors."""
        if len(getattr(labels, "shape", (0,))) != 1 or isinstance(labels, Mapping | Set):
            needed = 'a list with one label for each text, or one column such as table["label"]'
            raise InputError(f"labels must be {needed}, not {type(labels).__name__}.")
        texts, labels = list_of_texts(texts), list_of_labels(labels)
        if len(texts) != len(labels):
            raise InputError(f"There are {len(texts)} texts, but {len(labels)} labels; give one label for each text.")
        known = [label for label in labels if label != unknown]
        classes, names = classes_and_names(known, _without_unknown(class_names, unknown))
        index = {label: i for i, label in enumerate(classes)} | {unknown: len(classes)}
        for group in alike(name for name in names or () if isinstance(name, str)):
            logger.warning("these classes have almost the same name: %s", quoted(group))
        labels = [index[label] for label in labels]
        pool = [] if unlabelled is None else _usable_pool(list_of_texts(unlabelled, blanks=True), texts)
        named = [names is not None] * len(classes)
        names = names or list(map(str, classes))
        if len(known) < len(labels):
            logger.info("%d texts have the label %r: they belong to no class", len(labels) - len(known), unknown)
            names, named = [*names, NO_CLASS], [*named, False]
        episode = Episode.from_texts(names, texts, labels, unlabelled_texts=pool, named=named)
        each = zip(episode.class_names, episode.class_words, episode.shots, strict=True)
        if empty := [name for name, words, shots in each if words is None and not shots]:
            problem = f"These classes have neither a text nor a name that carries meaning: {quoted(empty)}"
            raise InputError(f"{problem}; add texts of them, or give them names in class_names.")
        return cls(episode, classes, unknown)


def list_of_texts(texts: Any, *, blanks: bool = False) -> list[str]:
    """The texts of any ordered collection; InputError for anything else, or an unusable text. Empty texts are unusable
    unless `blanks` are allowed."""
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of texts, not one string; for one text, give [{texts[:40]!r}].")
    is_table = len(getattr(texts, "shape", (0,))) != 1  # a data frame would be iterated over the names of its columns
    if is_table or isinstance(texts, Mapping | Set) or not isinstance(texts, Iterable):
        given = type(texts).__name__
        raise InputError(f'texts must be a list of texts, or one column such as table["text"], not {given}.')
    listed = list(texts)
    require_texts(listed, "texts", blanks=blanks)
    return [str(text) for text in listed]


def _without_unknown(class_names: Any, unknown: Any) -> Any:
    """The argument `class_names` without the label of unknown texts, which is no class."""
    if isinstance(class_names, Mapping):
        return {label: name for label, name in class_names.items() if label != unknown}
    if isinstance(class_names, list | tuple) and isinstance(unknown, str):
        return [name for name in class_names if name != unknown]
    return class_names


def _usable_pool(unlabelled: list[str], labelled: list[str]) -> list[str]:
    """The unlabelled texts that are used, each once. Those without content, copies of others and copies of labelled
    texts are dropped, which is logged."""
    known = {text.strip() for text in labelled}
    texts = [text for text in unlabelled if not is_blank(text)]
    unique = dict.fromkeys(text.strip() for text in texts)
    used = [text for text in unique if text not in known]
    dropped = {
        "without content": len(unlabelled) - len(texts),
        "that appear twice": len(texts) - len(unique),
        "that are labelled": len(unique) - len(used),
    }
    for what, number in dropped.items():
        if number:
            logger.info("dropped %d of %d unlabelled texts %s", number, len(unlabelled), what)
    return used


def classes_and_names(labels: list[Any], class_names: Any) -> tuple[list[Any], list[str] | None]:
    """The labels of all classes, sorted, and their names; None if they have none.

    InputError for fewer than 2 classes, a label that is not in `class_names`, or `class_names` without an order.
    """
    class_names = _given_names(class_names)
    if class_names is None or class_names == NO_NAMES:
        classes = sorted(set(labels))
        own = [name for label in classes if (name := name_of(label)) is not None]
        names = own if class_names is None and own else None
    elif isinstance(class_names, Mapping):
        classes = sorted(list_of_labels(class_names))
        names = [class_names[label] for label in classes]
    elif labels and name_of(labels[0]) is None:
        names = class_names
        classes = list(range(len(names)))
    else:
        names = class_names
        classes = names = sorted(names) if all(isinstance(name, str) for name in names) else names
    if unknown := sorted(set(labels) - set(classes)):
        raise InputError(f"The labels {unknown} are not in class_names, which names the classes {classes}.")
    classes = like_labels(classes, labels)
    if len(classes) < 2:
        problem = f"A classifier needs at least 2 classes; this task has {len(classes)}: {classes}"
        raise InputError(f"{problem}; add texts of another class, or the name of one.")
    return classes, names


def _given_names(class_names: Any) -> Mapping[Any, Any] | list[Any] | str | None:
    """The argument `class_names` as a mapping, a list, `NO_NAMES` or None; InputError for anything else."""
    if class_names is None or isinstance(class_names, Mapping):
        return class_names
    if hasattr(class_names, "index") and hasattr(class_names, "items"):
        return _of_column(class_names)
    if isinstance(class_names, Set):
        advice = "because its order changes between processes; give a list or a mapping"
        raise InputError(f"class_names must not be a {type(class_names).__name__}, {advice}.")
    if isinstance(class_names, str) and class_names == NO_NAMES:
        return class_names
    if isinstance(class_names, str) or not isinstance(class_names, Iterable):
        problem = f"class_names must be a list of names, a mapping or {NO_NAMES!r}, not {class_names!r}"
        raise InputError(f"{problem}.")
    listed = list(class_names)
    if other := [name for name in listed if not isinstance(name, Hashable)]:
        raise InputError(f"class_names must hold names, and not {other[0]!r}.")
    return listed


def _of_column(class_names: Any) -> list[Any] | dict[Any, Any]:
    """A pandas series as a mapping from its index, or as a list if the index is 0, 1, …"""
    pairs = dict(class_names.items())
    if len(pairs) < len(class_names):
        raise InputError("class_names has several names for one label of its index; give one for each.")
    return list(pairs.values()) if list(pairs) == list(range(len(pairs))) else pairs
