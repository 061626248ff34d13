"""What goes wrong because of what the user gave, and how its message lists things."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one or two sentences on one line: what came, what is needed, what to do. The command line
    prints it on stderr and ends with exit code 2, without a traceback; everything about bad input in
    `episodes` and in `metawarp` raises it.
    """


def first_line(error: Exception) -> str:
    """The first line of another library's message, or what the system says, to quote in one of ours."""
    if isinstance(error, OSError) and error.strerror:  # without its number, and the path that we name ourselves
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listing(items: Iterable[object], limit: int = 10) -> str:
    """The items for a message, such as `a, b and 3 more`.

    Args:
        items: what to list, in this order; each is shown as `str` shows it.
        limit: at most so many are shown (10: more make a terminal line unreadable).
    """
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")
