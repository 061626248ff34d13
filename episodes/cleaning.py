"""What must hold of the rows of a source before they become a corpus."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from episodes.errors import InputError, listing

logger = logging.getLogger(__name__)

# JSON may hold half of a surrogate pair ("\ud83d"), which no tokenizer takes.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def refuse_unusable_texts(texts: Sequence[Any], name: str) -> None:
    """Refuse texts that are missing, empty or no text at all.

    Args:
        texts: what should be texts.
        name: what the message calls them.

    Raises:
        InputError: names the first five such rows, counted from 1.
    """
    _refuse_rows(texts, f"{name}: texts must be strings that are not empty")


def usable_rows(
    texts: Sequence[Any], labels: Sequence[Any], name: str, refuse_conflicts: bool
) -> tuple[list[str], list[int]]:
    """The class name of each row, and the rows to keep: every check of this module, in its order.

    Args:
        texts: n cells that should be texts.
        labels: n cells that should be strings or whole numbers.
        name: what messages call their source.
        refuse_conflicts: whether a text under two labels is an error.

    Raises:
        InputError: see `refuse_unusable_texts`, `usable_labels` and `rows_without_copies`.
    """
    refuse_unusable_texts(texts, name)
    names = usable_labels(labels, name)
    return names, rows_without_copies(texts, names, name, refuse_conflicts)


def usable_labels(labels: Sequence[Any], name: str) -> list[str]:
    """The class name of each row: whole numbers as their digits, strings without surrounding white space.

    Args:
        labels: what should be strings or whole numbers.
        name: what the message calls their source.

    Raises:
        InputError: a label is missing, empty or of another type; names the first five such rows, counted
            from 1.
    """
    names = [str(label) if isinstance(label, int) else label for label in labels]
    _refuse_rows(names, f"{name}: labels must be names or whole numbers")
    return [label.strip() for label in names]


def domains_of(names: Sequence[str], labels: Sequence[str], domains: Sequence[Any], name: str) -> tuple[str, ...]:
    """The domain of each class.

    Args:
        names: C class names.
        labels: n class names, one a row.
        domains: what should be the domain of each row, a string or a whole number.
        name: what messages call their source.

    Raises:
        InputError: a domain is missing, empty or of another type; the rows of a class are of several domains.
    """
    cells = [str(domain) if isinstance(domain, int) else domain for domain in domains]
    _refuse_rows(cells, f"{name}: domains must be names or whole numbers")
    found: dict[str, set[str]] = {}
    for label, domain in zip(labels, cells, strict=True):
        found.setdefault(label, set()).add(domain.strip())
    if several := [f"{label!r} ({listing(sorted(of))})" for label, of in found.items() if len(of) > 1]:
        raise InputError(f"{name}: a class belongs to one domain, but these stand in several: {listing(several)}.")
    return tuple(next(iter(found[label])) for label in names)


def rows_without_copies(texts: Sequence[str], labels: Sequence[str], name: str, refuse_conflicts: bool) -> list[int]:
    """The rows to keep, ascending: the first copy of each text, none of a text that stands under two labels.

    Texts are compared without surrounding white space. What is dropped is counted in a log line.

    Args:
        texts: n texts.
        labels: n class names.
        name: what messages call their source.
        refuse_conflicts: whether a text under two labels is an error.

    Raises:
        InputError: a text stands under two labels and `refuse_conflicts` is set; shows the first one.
    """
    first: dict[str, int] = {}
    conflicting: dict[str, tuple[str, str]] = {}
    for row, text in enumerate(texts):
        original = first.setdefault(text.strip(), row)
        if labels[original] != labels[row]:
            conflicting.setdefault(text.strip(), (labels[original], labels[row]))
    if conflicting and refuse_conflicts:
        text, (one, other) = next(iter(conflicting.items()))
        example = text if len(text) <= 60 else text[:60] + "…"
        raise InputError(
            f"{name}: {len(conflicting)} texts stand under two labels, such as {example!r} under {one!r} and "
            f"{other!r}; correct them."
        )
    kept = [row for text, row in first.items() if text not in conflicting]
    if len(kept) < len(texts):
        logger.info(
            "%s: dropped %d of %d rows: copies, and all rows of the %d texts that stand under two labels",
            name,
            len(texts) - len(kept),
            len(texts),
            len(conflicting),
        )
    return kept


def _refuse_rows(cells: Iterable[Any], what: str) -> None:
    flaws = ((row, _flaw(cell)) for row, cell in enumerate(cells, start=1))
    rows = [f"row {row} {flaw}" for row, flaw in flaws if flaw is not None]
    if rows:
        raise InputError(f"{what}, but {listing(rows, 5)}; fill in or remove these rows.")


def _flaw(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "is missing"
    if not isinstance(cell, str):
        return f"is of type {type(cell).__name__}"
    if not cell.strip():
        return "is empty"
    return "is not valid Unicode" if _LONE_SURROGATE.search(cell) else None
