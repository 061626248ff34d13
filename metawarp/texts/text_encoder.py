"""From texts to token ids inside their template: a template bound to a tokenizer."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from episodes.errors import InputError, quoted, repeated
from metawarp.backbones.backbone import Backbone
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope
from metawarp.texts.template import Template

logger = logging.getLogger(__name__)

_Place = tuple[int, int, bool]
"""Token id, index of the soft token (-1: none), and whether it belongs to the text for a sentence encoder."""


class TextEncoder:
    """Encodes texts for a backbone inside a template; InputError if the template leaves no room for text, or windows
    would leave tokens out.

    An input has at most `max_length` tokens, template included. A longer text is divided into windows with the distance
    `stride`, or truncated if that is 0. `tokens` caches the token ids of texts.

    Attributes:
        prompt_word_ids: for each soft token, the id of its word in the template; None if the template gives none.
        space: white space put before a text, because the template has words there.
        before: number of template tokens before the text.
        room: number of tokens that a text may have; a longer text loses its end, or is read in windows.
    """

    def __init__(
        self, template: Template, backbone: Backbone, max_length: int, stride: int, tokens: CacheScope
    ) -> None:
        self.backbone, self.max_length, self.stride, self._tokens = backbone, max_length, stride, tokens
        self.prompt_word_ids: list[int | None] = []
        first, last = _special_tokens(backbone)
        has_start = any(kind == "start" for kind, _ in template.parts)
        places: list[_Place] = [] if has_start else [*first]
        for kind, value in template.parts:
            if kind == "text":
                self.before, self.space = len(places), str(value)
            elif kind == "start":
                places += first
            elif kind == "mask":
                places.append((backbone.mask_token_id, -1, False))
            elif kind == "words":
                places += [(token, -1, False) for token in self.token_ids([str(value)])[0]]
            else:
                starts: Sequence[int | None] = [None] * value if isinstance(value, int) else self.token_ids([value])[0]
                numbers = range(self.prompt_length, self.prompt_length + len(starts))
                places += [(backbone.pad_token_id, number, False) for number in numbers]
                self.prompt_word_ids += starts
        self._prefix, self._suffix = places[: self.before], [*places[self.before :], *last]
        self.room = max_length - len(places) - len(last)
        if self.room < 1:
            problem = f"template={template.source!r} takes {max_length - self.room} tokens and leaves no room for text"
            raise InputError(f"{problem}, because an input has at most {max_length} tokens; use a shorter prompt.")
        if not 0 <= stride <= self.room:
            allowed = f"0, or from 1 to {self.room}, the number of text tokens in an input"
            raise InputError(f"stride={stride} must be {allowed}: 0 truncates long texts, others read them in windows.")

    @property
    def prompt_length(self) -> int:
        """Number K of soft tokens."""
        return len(self.prompt_word_ids)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of bare texts, without special tokens."""
        tokenize = self.backbone.tokenizer
        return tokenize(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def ids_in_template(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the texts as they appear in the template, without the template."""

        def computed(rows: list[int]) -> list[bytes]:
            read = [self.backbone.as_read(texts[row]) if texts[row] else "" for row in rows]
            ids = self.token_ids([f"{self.space}{text}" if text else "" for text in read])
            return [np.array(row, dtype=np.int32).tobytes() for row in ids]

        values = self._tokens.values([text.encode(errors="surrogatepass") for text in texts], computed)
        return [np.frombuffer(value, dtype=np.int32).tolist() for value in values]

    def n_truncated(self, texts: Sequence[str]) -> int:
        """Number of texts that are longer than an input has room for."""
        return sum(len(ids) > self.room for ids in self.ids_in_template(texts))

    def windows(self, batch: EncodedBatch) -> tuple[EncodedBatch, Tensor]:
        """Inputs of at most `max_length` tokens (W), and the index (W,) of the text of each."""
        if not self.stride:
            return batch, torch.arange(len(batch))
        return batch.windows(self.before, len(self._suffix), self.room, self.stride)

    def require_known(self, class_words: Iterable[str | None]) -> None:
        """Check that the tokenizer knows some part of every class name; otherwise all embeddings would be equal. A
        warning is logged for names that it cannot tell apart. None stands for a name without meaning."""
        names = [words for words in class_words if words is not None]
        unknown = {self.backbone.tokenizer.unk_token_id, *self.token_ids([" "])[0]}
        ids = list(map(tuple, self.token_ids(names)))
        if lost := [name for name, tokens in zip(names, ids, strict=True) if set(tokens) <= unknown]:
            problem = f"The backbone's tokenizer knows no part of these class names: {quoted(lost)}"
            raise InputError(f"{problem}; give class names in words that it knows.")
        shared = set(repeated(ids))
        if same := [name for name, tokens in zip(names, ids, strict=True) if tokens in shared]:
            logger.warning("the backbone's tokenizer does not distinguish these class names: %s", quoted(same))

    def __call__(self, texts: Sequence[str]) -> EncodedBatch:
        """Encode B texts; a text without any known character is an empty text in its template."""
        shown = None if self.stride else self.room
        ids = self.ids_in_template(texts)
        rows = [self._prefix + [(token, -1, True) for token in text[:shown]] + self._suffix for text in ids]
        width = max(map(len, rows))
        padding = [(self.backbone.pad_token_id, -1, False)]
        table = np.array([row + padding * (width - len(row)) for row in rows], dtype=np.int64)
        input_ids, prompt_index, text_mask = torch.from_numpy(table).unbind(-1)
        attention = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        # A [MASK] that a user wrote inside a text must not be taken for the template's, nor the padding of a decoder.
        is_mask = (input_ids == self.backbone.mask_token_id) & (text_mask == 0) & (prompt_index < 0) & attention
        mask_position = torch.where(is_mask.any(1), is_mask.int().argmax(1), -1)
        return EncodedBatch(input_ids, prompt_index, attention, text_mask.bool(), mask_position)


def _special_tokens(backbone: Backbone) -> tuple[list[_Place], list[_Place]]:
    """What the tokenizer puts before and after a text, such as [CLS] and [SEP]."""
    encoded = backbone.tokenizer("a", return_special_tokens_mask=True)
    places, special = [(token, -1, True) for token in encoded["input_ids"]], encoded["special_tokens_mask"]
    return places[: special.index(0)], places[len(special) - special[::-1].index(0) :]
