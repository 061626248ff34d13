"""Templates such as "{prompt:4} {text} {prompt:4} {mask}": what stands around a text, and where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes import InputError
from episodes.errors import listing
from metawarp.texts.encoded import EncodedBatch

_FIELD = re.compile(r"\{([^{}]*)\}")
_PROMPT = re.compile(r"prompt:\s*(?:(0*[1-9]\d*)|'([^']*\S[^']*)'|\"([^\"]*\S[^\"]*)\")")


@dataclass(frozen=True)
class Template:
    """A parsed template. Write one as a string:

    - `{text}`: the text, once.
    - `{mask}`: [MASK], at most once (without it only the "mean" read-out works).
    - `{start}`: the model's own first tokens, such as [CLS], at most once and before the text; at the very front where
      it is left out. Soft tokens before it are what PEFT calls prompt tuning.
    - `{prompt:4}`: four soft tokens, anywhere and as often as wanted.
    - `{prompt:'the topic is'}`: soft tokens that start from these words, one for each of their tokens.
    - anything else: fixed words, such as `It was about {mask}.`

    White space before words counts where the tokenizer tells " it" from "it" (byte-level BPE), as it would in one
    string; before the text it counts where words stand there, and not behind soft tokens alone: they are no words, and
    the text is to be what a sentence encoder reads.

    Args:
        source: the string.

    Raises:
        InputError: no or several `{text}`, two `{mask}`, an unknown or malformed field.
    """

    source: str

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parts]
        if names.count("text") != 1:
            raise InputError(f"template {self.source!r} has {names.count('text')} {{text}}; it needs exactly one.")
        if names.count("start") > 1 or "start" in names[names.index("text") :]:
            raise InputError(
                f"template {self.source!r} has {{start}} behind {{text}}, or twice; it can stand once before."
            )
        if names.count("mask") > 1:
            raise InputError(f"template {self.source!r} has {names.count('mask')} {{mask}}; there can be one only.")

    @property
    def parts(self) -> list[tuple[str, str | int]]:
        """(kind, value) from left to right; kind is text, mask, start, soft (a number), soft words or words.

        The value of the text is a space where white space parts it from words before it, otherwise nothing.
        """
        parts: list[tuple[str, str | int]] = []
        position = 0
        for match in _FIELD.finditer(self.source):
            if words := self.source[position : match.start()].rstrip():
                parts.append(("words", words))
            kind, value = self._field(match[1].strip())
            if parts and self.source[: match.start()][-1].isspace():
                if kind == "soft words":
                    value = f" {value}"
                elif kind == "text" and "words" in parts[-1][0]:
                    value = " "
            parts.append((kind, value))
            position = match.end()
        if words := self.source[position:].rstrip():
            parts.append(("words", words))
        stray = [word for kind, word in parts if kind == "words" and set(str(word)) & set("{}")]
        if stray:
            raise InputError(f"template {self.source!r} has a brace without its partner in {stray[0]!r}.")
        return parts

    def _field(self, field: str) -> tuple[str, str | int]:
        if field in ("text", "mask", "start"):
            return field, ""
        match = _PROMPT.fullmatch(field)
        if match is None or not any(match.groups()):
            raise InputError(
                f"template {self.source!r} has the unknown field {{{field}}}; "
                "known: {text}, {mask}, {start}, {prompt:4} and {prompt:'words'}, a prompt being at least one token."
            )
        return ("soft", int(match[1])) if match[1] else ("soft words", match[2] or match[3])

    @property
    def has_mask(self) -> bool:
        """Whether [MASK] stands in it."""
        return any(kind == "mask" for kind, _ in self.parts)


class TextEncoder:
    """Puts texts into a template: the template, bound to a tokenizer.

    Args:
        template: what stands around the text.
        tokenizer: of the backbone.
        max_length: tokens of a whole input, specials and prompt included. The text alone is truncated to fit.
        stride: where it is not 0, texts keep all their tokens, for `windows` to cut.

    Raises:
        InputError: the template alone leaves no room for a single token of text; windows would leave tokens out.
    """

    def __init__(self, template: Template, tokenizer: Any, max_length: int, stride: int = 0) -> None:
        self.tokenizer, self.max_length, self.stride = tokenizer, max_length, stride
        before, after = _special_tokens(tokenizer)
        self.prompt_words: list[int | None] = []
        """For each soft token: the ids of the word token it starts from, or None."""
        first = [(token, -1, True) for token in before]
        moved = any(kind == "start" for kind, _ in template.parts)
        prefix: list[tuple[int, int, bool]] = [] if moved else first
        suffix: list[tuple[int, int, bool]] = []
        side = prefix
        for kind, value in template.parts:
            if kind == "text":
                side, self.space = suffix, value
            elif kind == "start":
                side += first
            elif kind == "mask":
                side.append((tokenizer.mask_token_id, -1, False))
            elif kind == "words":
                side += [(token, -1, False) for token in self.token_ids([str(value)])[0]]
            else:
                starts: Sequence[int | None] = [None] * value if isinstance(value, int) else self.token_ids([value])[0]
                for start in starts:
                    side.append((tokenizer.pad_token_id, len(self.prompt_words), False))
                    self.prompt_words.append(start)
        self._remembered: dict[str, list[int]] = {}
        self._prefix = prefix
        self._suffix = suffix + [(token, -1, True) for token in after]
        self.before = len(self._prefix)
        """Tokens of the template before the text."""
        self.room = max_length - len(self._prefix) - len(self._suffix)
        """Tokens that a text may have; what is longer loses its end."""
        if self.room < 1:
            raise InputError(
                f"template {template.source!r} takes {max_length - self.room} tokens and leaves no room for text; "
                f"an input has {max_length} tokens at most: use a shorter prompt."
            )
        if not 0 <= stride <= self.room:
            raise InputError(
                f"stride is {stride}; with 0 a long text loses its end, with 1 to {self.room}, the tokens of text that "
                "an input has room for, it is read in windows."
            )

    @property
    def prompt_length(self) -> int:
        """Number K of soft tokens."""
        return len(self.prompt_words)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of bare texts, nothing around them."""
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def _ids_in_place(self, texts: Sequence[str]) -> list[list[int]]:
        return self.token_ids([f"{self.space}{text}" if text else "" for text in texts])

    def remember(self, texts: Sequence[str]) -> None:
        """Tokenize the texts of a corpus once, for all the episodes that will hold them."""
        new = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        if new:
            self._remembered.update(zip(new, self._ids_in_place(new), strict=True))

    def too_long(self, texts: Sequence[str]) -> int:
        """How many of remembered texts are longer than an input has room for."""
        return sum(len(self._remembered[text]) > self.room for text in texts)

    def windows(self, batch: EncodedBatch) -> tuple[EncodedBatch, Tensor]:
        """Inputs of at most `max_length` tokens (W), and which text each is of (W,)."""
        if not self.stride:
            return batch, torch.arange(len(batch))
        return batch.windows(self.before, len(self._suffix), self.room, self.stride)

    def require_known(self, names: Sequence[str]) -> None:
        """Refuse class names that the tokenizer knows nothing of: their rows would all be the same.

        Raises:
            InputError: lists the names of which every token is unknown.
        """
        unknown = {self.tokenizer.unk_token_id, *self.token_ids([" "])[0]}
        lost = [name for name, ids in zip(names, self.token_ids(names), strict=True) if set(ids) <= unknown]
        if lost:
            raise InputError(
                f"the backbone's tokenizer knows no part of these class names: {listing(map(repr, lost))}; "
                "name the classes in words that it knows."
            )

    def __call__(self, texts: Sequence[str]) -> EncodedBatch:
        """Encode B texts; a text without any known character is an empty text inside its template."""
        new = [text for text in texts if text not in self._remembered]
        found = dict(zip(new, self._ids_in_place(new), strict=True)) if new else {}
        ids = [self._remembered[text] if text in self._remembered else found[text] for text in texts]
        shown = None if self.stride else self.room
        rows = [self._prefix + [(t, -1, True) for t in some[:shown]] + self._suffix for some in ids]
        width = max(map(len, rows))
        padding = [(self.tokenizer.pad_token_id, -1, False)]
        table = np.array([row + padding * (width - len(row)) for row in rows], dtype=np.int64)
        input_ids, prompt_index, text_mask = torch.from_numpy(table).unbind(-1)
        attention = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        # [MASK] written by a user inside a text must not be taken for the template's.
        is_mask = (input_ids == self.tokenizer.mask_token_id) & (text_mask == 0)
        mask_position = torch.where(is_mask.any(1), is_mask.int().argmax(1), -1)
        return EncodedBatch(input_ids, prompt_index, attention, text_mask.bool(), mask_position)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a text, such as [CLS] and [SEP]."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    first, last = special.index(0), len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]
