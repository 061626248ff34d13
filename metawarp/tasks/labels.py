"""Labels of the types that scikit-learn accepts. They come back unchanged, in type and value."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from episodes.errors import InputError, listing

_STORED_TYPES = ("str", "bool", *(f"{kind}{n}" for kind in ("int", "uint") for n in (8, 16, 32, 64)))
_STORED_TYPES += ("float16", "float32", "float64")

MISSING = ("NoneType", "NAType", "NaTType")
"""Types of what stands for a missing label, those of pandas among them."""

_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (  # in this order: a bool is an int as well
    ("booleans", (bool, np.bool_)),
    ("integers", (int, np.integer)),
    ("strings", (str,)),
    ("whole numbers", (float, np.floating)),
)


def list_of_labels(labels: Any) -> list[Any]:
    """The labels, all of one kind: strings, integers, booleans, whole floats, or members of one str or int enum.

    InputError if they are not a list, missing, of other types, or of several kinds; it names the rows, counted from 1.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InputError(f"labels must be a list with one label for each text, not {type(labels).__name__}.")
    listed = list(labels)
    if rows := [row for row, label in enumerate(listed, start=1) if _is_missing(label)]:
        raise InputError(f"labels are missing in row {listing(rows, 5)}; correct or remove these rows.")
    kinds = [_kind(label) for label in listed]
    if None in kinds:
        row = kinds.index(None)
        needed = "strings, integers, booleans, whole numbers, or members of a str or int enum"
        given = f"{listed[row]!r} (row {row + 1}) is of type {type(listed[row]).__name__}"
        raise InputError(f"labels must be {needed}, but {given}.")
    if len(set(kinds)) > 1:
        types = ", ".join(sorted({type(label).__name__ for label in listed}))
        raise InputError(f"labels must be all of one type, such as strings or integers; these are of type {types}.")
    return listed


def name_of(label: Any) -> str | None:
    """The name that a label itself is: a string, or the name of a member of an int enum; None for other labels."""
    if isinstance(label, Enum):
        return str(label.value) if isinstance(label, str) else label.name
    return str(label) if isinstance(label, str) else None


def like_labels(classes: Sequence[Any], labels: Sequence[Any]) -> list[Any]:
    """The classes in the type of the labels, which may equal them in another type, as True equals 1."""
    own = {label: label for label in labels}
    kind = type(labels[0]) if labels and not isinstance(labels[0], Enum) else None

    def like(label: Any) -> Any:
        if label in own or kind is None:
            return own.get(label, label)
        converted = kind(label)
        if converted != label:
            raise InputError(f"The class {label!r} has no label of type {kind.__name__}; name only classes that have.")
        return converted

    return [like(label) for label in classes]


def label_array(labels: Sequence[Any]) -> np.ndarray:
    """The labels as an array: of their own data type if each of them comes back as it was given, else of objects."""
    array = np.array(labels) if labels and not isinstance(labels[0], Enum) else np.array([])
    if _equal(array.tolist(), [_plain(label) for label in labels]):
        return array
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def with_unknown(classes: np.ndarray, unknown: Any) -> np.ndarray:
    """The labels (C,) of a task, and that of unknown texts at the end; of objects if their types differ."""
    return label_array([*(classes if classes.dtype == object else classes.tolist()), unknown])


def stored_label(label: Any) -> Any:
    """A label as an entry of a config.json; InputError for members of an enum and other types that it cannot hold."""
    label = _plain(label)
    if type(label) not in (str, int, bool, float):
        problem = f"labels of type {type(label).__name__} cannot be saved"
        raise InputError(f"{problem}; fit the task to their values, such as {_plain_value(label)!r}.")
    return label


def stored_labels(classes: np.ndarray) -> dict[str, Any]:
    """The labels of a task as entries of its config.json; InputError for members of an enum, which it cannot hold."""
    labels = [stored_label(label) for label in classes.tolist()]
    return {"classes": labels, "label_type": "str" if classes.dtype.kind == "U" else classes.dtype.name}


def loaded_labels(labels: Sequence[Any], label_type: str | None) -> np.ndarray:
    """The labels that `stored_labels` wrote; None is the type of tasks of earlier releases.

    InputError if the labels are not different ones of this type.
    """
    if label_type == "object":
        array = np.empty(len(labels), dtype=object)
        array[:] = labels
        return array
    try:
        array = np.array(labels, dtype=label_type if label_type in _STORED_TYPES else None)
    except (TypeError, ValueError, OverflowError):
        array = np.array([])
    if label_type not in (None, *_STORED_TYPES) or not _equal(array.tolist(), labels) or len(set(labels)) < len(labels):
        raise InputError(f"The labels of the task are not different ones of type {label_type!r}; fit it again.")
    return array


def _is_missing(label: Any) -> bool:
    return type(label).__name__ in MISSING or (isinstance(label, float | np.floating) and bool(np.isnan(label)))


def _kind(label: Any) -> object:
    """The kind of a label; None if it is of none."""
    if isinstance(label, Enum):
        return type(label) if isinstance(label, str | int) else None
    kind = next((kind for kind, types in _KINDS if isinstance(label, types)), None)
    return None if kind == "whole numbers" and not float(label).is_integer() else kind


def _equal(labels: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two lists have the same labels, of the same types."""
    pairs = list(zip(labels, others, strict=False))
    return len(labels) == len(others) and all(type(a) is type(b) and a == b for a, b in pairs)


def _plain(label: Any) -> Any:
    """A label without the types of numpy."""
    return label.item() if isinstance(label, np.generic) else label


def _plain_value(label: Any) -> Any:
    return label.value if isinstance(label, Enum) else label
