"""What the names of classes say: the words that a model reads, or nothing.

Many labels are written for programs: `playMusic`, `intent.play_music`, `LABEL_3`. The first two say what a class is
about once they are spelled as words. The last one says nothing, and a class with such a name is known by its texts
alone. Names are shown and saved as they were given; only what a model reads is changed.
"""

import re
from collections.abc import Iterable, Sequence

COUNTED = (
    *("c", "cat", "category", "class", "cls", "cluster", "code", "group", "i", "id", "idx", "index", "intent", "k"),
    *("key", "l", "label", "no", "nr", "num", "number", "t", "tag", "target", "topic", "type", "y"),
)
"""Words that say nothing beside a number, as in `LABEL_3` or `id-13`."""

_NUMBERED = re.compile(rf"(?:{'|'.join(COUNTED)})?[\W_]*\d+(?:[\W_]+\d+)*[\W_]*")
_SEPARATORS = re.compile(r"[_/:]+|(?<=\w\w)\.(?=\w\w)")


def class_words(names: Sequence[str]) -> tuple[str | None, ...]:
    """The words of each of C different class names; None for a name that carries no meaning.

    A name carries no meaning if it is a number, or a number behind one of the words in `COUNTED`. If all names differ
    in their numbers alone, such as "dept 1" and "dept 2", none of them carries any.
    """
    without_numbers = {re.sub(r"\d+", "0", name.strip().casefold()) for name in names}
    if len(names) > 1 and len(without_numbers) == 1:
        return (None,) * len(names)
    return tuple(None if _NUMBERED.fullmatch(name.strip().casefold()) else spelled_out(name) for name in names)


def spelled_out(name: str) -> str:
    """A name in programmers' spelling as words: "play music" for `play_music`, `playMusic`, `PLAY-MUSIC`.

    Names of several words only lose their underscores. A hyphen between small letters stays, because it belongs to
    words such as "non-profit".
    """
    if re.search(r"\s", name.strip()):
        return " ".join(name.replace("_", " ").split())
    if name.isupper() and re.search(r"[_-]", name):
        name = name.replace("-", " ").lower()
    pieces = [piece for part in _SEPARATORS.sub(" ", name).split() for piece in _of_camel_case(part)]
    return " ".join(pieces) or name


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in capital letters or in white space, such as "Refund" and "refund "."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _of_camel_case(word: str) -> list[str]:
    """The words of "playMusic" or "HTTPError404"; the word itself if it is spelled otherwise, as "iPhone" or "FAQs"."""
    starts = [0, *(at for at in range(2, len(word)) if _starts_a_word(word, at)), len(word)]
    pieces = [word[first:last] for first, last in zip(starts, starts[1:], strict=False)]
    return [word] if len(pieces) == 1 else [piece.lower() if piece.istitle() else piece for piece in pieces]


def _starts_a_word(word: str, at: int) -> bool:
    before, character, after = word[at - 1], word[at], word[at + 1 : at + 3]
    if character.isdigit():
        return word[max(at - 3, 0) : at].isalpha() and at > 2
    if not character.isupper():
        return False
    return before.islower() or ((before.isupper() or before.isdigit()) and len(after) == 2 and after.islower())
