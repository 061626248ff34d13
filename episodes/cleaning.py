"""Checks on the rows of a source before they become a corpus. `source` is always its name in messages."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from episodes.errors import InputError, listing, quoted

logger = logging.getLogger(__name__)

# JSON may hold half of a surrogate pair ("\ud83d"), which no tokenizer accepts.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def require_texts(texts: Sequence[Any], source: str, *, blanks: bool = False) -> None:
    """Check that every text is a string of valid Unicode, and that it is not empty unless `blanks` are allowed;
    InputError names unusable rows, counted from 1."""
    _require_strings(texts, f"{source}: texts must be {'' if blanks else 'non-empty '}strings", blanks=blanks)


def is_blank(text: str) -> bool:
    """Whether a text has no content: nothing but white space, and control or formatting characters."""
    kinds = (unicodedata.category(character) for character in text)
    return all(kind[0] == "Z" or kind in ("Cc", "Cf") for kind in kinds)


def is_text(cell: Any) -> bool:
    """Whether something is a non-empty string of valid Unicode."""
    return _problem(cell) is None


def usable_rows(
    texts: Sequence[Any], labels: Sequence[Any], source: str, refuse_conflicts: bool
) -> tuple[list[str], list[int]]:
    """The class name of each of n rows, integers as their digits, and the indices of the rows to keep, ascending.

    The first of several equal texts is kept, and none of a text that has two labels. Texts are compared without
    surrounding white space. The number of dropped rows is logged. InputError if a text or label is missing, empty or of
    another type (the first five such rows are named, counted from 1), or `refuse_conflicts` is set and a text has two
    labels.
    """
    require_texts(texts, source)
    names = _names(labels, f"{source}: labels must be names or integers")
    given = {label for label in labels if isinstance(label, str)}
    if padded := sorted(label for label in given if label != label.strip() and label.strip() in given):
        logger.warning("%s: white space around labels is ignored, as in %s", source, quoted(padded))
    first: dict[str, int] = {}
    conflicting: dict[str, tuple[str, str]] = {}
    for row, text in enumerate(texts):
        original = first.setdefault(text.strip(), row)
        if names[original] != names[row]:
            conflicting.setdefault(text.strip(), (names[original], names[row]))
    if conflicting and refuse_conflicts:
        text, (label, other) = next(iter(conflicting.items()))
        example = text if len(text) <= 60 else text[:60] + "…"
        given = f"{len(conflicting)}, such as {example!r} with {label!r} and {other!r}"
        raise InputError(f"{source}: number of texts with two labels: {given}; correct them.")
    kept = [row for text, row in first.items() if text not in conflicting]
    if n_dropped := len(texts) - len(kept):
        message = "%s: dropped %d of %d rows (duplicates, and all rows of the %d texts that have two labels)"
        logger.info(message, source, n_dropped, len(texts), len(conflicting))
    return names, kept


def domain_of_classes(
    class_names: Sequence[str], labels: Sequence[str], domains: Sequence[Any], source: str
) -> tuple[str, ...]:
    """The domain of each of C classes, from the class name and the domain of each of n rows.

    InputError if a domain is missing, empty or neither string nor integer, or a class has rows of several domains.
    """
    domains_by_class = defaultdict(set)
    for label, domain in zip(labels, _names(domains, f"{source}: domains must be names or integers"), strict=True):
        domains_by_class[label].add(domain)
    several = [f"{name!r} ({listing(sorted(found))})" for name, found in domains_by_class.items() if len(found) > 1]
    if several:
        raise InputError(f"{source}: a class belongs to one domain, but these have several: {listing(several)}.")
    return tuple(next(iter(domains_by_class[name])) for name in class_names)


def _names(cells: Iterable[Any], requirement: str) -> list[str]:
    """The cells as names: integers become their digits, strings lose surrounding white space."""
    names = [str(cell) if isinstance(cell, int) else cell for cell in cells]
    _require_strings(names, requirement)
    return [name.strip() for name in names]


def _require_strings(cells: Iterable[Any], requirement: str, *, blanks: bool = False) -> None:
    problems = ((row, _problem(cell, blanks)) for row, cell in enumerate(cells, start=1))
    if rows := [f"row {row} {problem}" for row, problem in problems if problem]:
        raise InputError(f"{requirement}, but {listing(rows, 5)}; correct or remove these rows.")


def _problem(cell: Any, blanks: bool = False) -> str | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "is missing"
    if not isinstance(cell, str):
        return f"is of type {type(cell).__name__}"
    if not blanks and not cell.strip():
        return "is empty"
    return "is not valid Unicode" if _LONE_SURROGATE.search(cell) else None
