"""The error for unusable input, and how its messages list items and quote other errors."""

from collections import Counter
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


class InputError(ValueError):
    """The user's data or arguments cannot be used.

    The message is one or two sentences on one line: what was given, what is needed, what to do. Arguments are written
    as `name=value`, so that the command line can add the flag of each.
    """


def require_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that an argument has one of the allowed values; InputError lists them."""
    if value not in (allowed := list(choices)):
        raise InputError(f"{name}={value!r} is unknown; choose one of: {listing(allowed, len(allowed))}.")


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, to quote in one of ours."""
    if isinstance(error, OSError) and error.strerror:  # without its number, and the path that we name ourselves
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """A text without control characters, which a terminal would obey: they are shown as escapes, such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, names: Iterable[str]) -> str:
    """What follows the name of something unknown in a message: the most similar name, if one is similar."""
    matches = get_close_matches(name, list(names), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listing(items: Iterable[object], limit: int = 10) -> str:
    """Items as `str` shows them, at most `limit` of them, for a message: `a, b and 3 more`."""
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")


def quoted(items: Iterable[object], limit: int = 10) -> str:
    """The same list with each item as `repr` shows it."""
    return listing(map(repr, items), limit)


def repeated(names: Iterable[Name]) -> list[Name]:
    """The names that appear more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
