"""Templates such as "{prompt:4} {text} {prompt:4} {mask}": what surrounds a text, and where."""

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from episodes import InputError

Kind = Literal["text", "mask", "start", "soft", "soft words", "words"]

_FIELD = re.compile(r"\{([^{}]*)\}")
_PROMPT = re.compile(r"prompt:\s*(?:(0*[1-9]\d*)|'([^']*\S[^']*)'|\"([^\"]*\S[^\"]*)\")")

MOST_TOKENS = 1000
"""Largest number of soft tokens of one field; no supported backbone was trained on inputs that are much longer."""


@dataclass(frozen=True)
class Template:
    """A parsed template. It is written as a string:

    - `{text}`: the text, exactly once.
    - `{mask}`: [MASK], at most once; the read-outs `mask`, `debiased_mask` and `replaced_token` need it.
    - `{start}`: the model's own first tokens, such as [CLS], at most once and before the text. Without this field they
      come first. Soft tokens before `{start}` are what PEFT calls prompt tuning.
    - `{prompt:4}`: four soft tokens, anywhere and as often as wanted.
    - `{prompt:'the topic is'}`: soft tokens that start from these words, one for each of their tokens.
    - anything else: fixed words, such as `It was about {mask}.`

    Some tokenizers (byte-level BPE) give " it" and "it" different tokens. For these, white space before fixed words,
    and between fixed words and `{text}`, is kept. White space between soft tokens and `{text}` is dropped, so that the
    text has the same tokens as without a template. A malformed template is an InputError.

    Attributes:
        source: the template as a string.
    """

    source: str

    def __post_init__(self) -> None:
        kinds = [kind for kind, _ in self.parts]
        if kinds.count("text") != 1:
            raise InputError(f"template={self.source!r} has {kinds.count('text')} {{text}}; it needs exactly one.")
        if kinds.count("start") > 1 or "start" in kinds[kinds.index("text") :]:
            raise InputError(f"template={self.source!r} may have {{start}} only once, and before {{text}}.")
        if kinds.count("mask") > 1:
            raise InputError(f"template={self.source!r} has several {{mask}}; there can be only one.")

    @property
    def parts(self) -> list[tuple[Kind, str | int]]:
        """(kind, value) of each part from left to right.

        The value of "soft" is the number of soft tokens, that of "soft words" and "words" the words, that of "text" the
        white space that separates it from words before it (a space or nothing).
        """
        parts: list[tuple[Kind, str | int]] = []
        pieces = _FIELD.split(self.source)  # words and fields in turn
        for words, field in zip_longest(pieces[::2], pieces[1::2]):
            if words.rstrip():
                parts.append(("words", words.rstrip()))
            if field is None:
                break
            kind, value = self._field(field.strip())
            if parts and words[-1:].isspace():
                if kind == "soft words":
                    value = f" {value}"
                elif kind == "text" and "words" in parts[-1][0]:
                    value = " "
            parts.append((kind, value))
        if unmatched := [word for kind, word in parts if kind == "words" and set(str(word)) & set("{}")]:
            raise InputError(f"template={self.source!r} has an unmatched brace in {unmatched[0]!r}.")
        return parts

    def _field(self, field: str) -> tuple[Kind, str | int]:
        if field == "text" or field == "mask" or field == "start":
            return field, ""
        match = _PROMPT.fullmatch(field)
        if match is None:
            known = "{text}, {mask}, {start}, {prompt:4} and {prompt:'words'}, with at least one token"
            raise InputError(f"template={self.source!r} has the unknown field {{{field}}}; known: {known}.")
        if match[1] is None:
            return "soft words", match[2] or match[3]
        if len(match[1]) > len(str(MOST_TOKENS)) or int(match[1]) > MOST_TOKENS:
            given = f"{match[1][:20]} soft tokens in one field"
            raise InputError(f"The template has {given}; at most {MOST_TOKENS} are possible.")
        return "soft", int(match[1])

    @property
    def has_mask(self) -> bool:
        """Whether the template contains [MASK]."""
        return any(kind == "mask" for kind, _ in self.parts)
