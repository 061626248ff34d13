"""Texts as token ids inside their template, and how a batch of them is cut into passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor

WORTH_A_PASS, PADDING = 512, 0.05
"""A pass of this many tokens is cut before padding is a larger share of it: 8 % in all over an episode of HuffPost
(5-way, 5 shots, 15 queries), where passes of up to 2,048 tokens alone computed 16 % (measured)."""


@dataclass(frozen=True)
class EncodedBatch:
    """B texts inside their template, padded on the right to n tokens.

    Attributes:
        input_ids: (B, n) token ids; the padding id where a soft token stands.
        prompt_index: (B, n) which soft token stands there, 0 … K-1; -1 where none does.
        attention_mask: (B, n) true where there is a token.
        text_mask: (B, n) true at the tokens of the text and the model's own special tokens around the
            whole: what a sentence encoder averages.
        mask_position: (B,) where [MASK] stands; -1 in a template without it.
        shift: (B, n, w) by how much of its own length each token is shifted as it enters the prompt's layer; None: by
            nothing.
    """

    input_ids: Tensor
    prompt_index: Tensor
    attention_mask: Tensor
    text_mask: Tensor
    mask_position: Tensor
    shift: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text with its template, (B,)."""
        return self.attention_mask.sum(1)

    def select(self, rows: Tensor) -> EncodedBatch:
        """The given rows, (R,) indices, without the padding that they do not need."""
        width = int(self.lengths[rows].max())
        parts = {name: part[rows] for name, part in self._parts().items()}
        return EncodedBatch(**{name: part[:, :width] if part.dim() > 1 else part for name, part in parts.items()})

    def to(self, device: torch.device) -> EncodedBatch:
        """The same batch on another device."""
        return EncodedBatch(**{name: part.to(device) for name, part in self._parts().items()})

    def _parts(self) -> dict[str, Tensor]:
        return {f.name: part for f in fields(self) if (part := getattr(self, f.name)) is not None}

    def without_prompt(self) -> EncodedBatch:
        """The same texts as if the template had no soft tokens."""
        return self.only(self.attention_mask & (self.prompt_index < 0))

    def only(self, kept: Tensor) -> EncodedBatch:
        """The same texts without some of their tokens, as narrow as they then are.

        Args:
            kept: (B, n) true at the tokens that stay.
        """
        packed, _ = self.packed(kept)
        return packed.select(torch.arange(len(self)))

    def packed(self, kept: Tensor) -> tuple[EncodedBatch, Tensor]:
        """As `only`, but as wide as it was, by operations that a graph can hold.

        Returns:
            The batch, and (B, n) where each token that stays stands in it; n for the others.
        """
        width = self.input_ids.shape[1]
        place = torch.where(kept, kept.long().cumsum(1) - 1, width)

        def moved(part: Tensor, padding: int) -> Tensor:
            # What does not stay goes to a column that is cut off.
            return part.new_full((*part.shape[:1], width + 1, *part.shape[2:]), padding).scatter(
                1, place.view(*place.shape, *[1] * (part.dim() - 2)).expand_as(part), part
            )[:, :width]

        at_mask = place.gather(1, self.mask_position.clamp(min=0)[:, None])[:, 0]
        batch = EncodedBatch(
            moved(self.input_ids, 0),
            moved(self.prompt_index, -1),
            torch.arange(width, device=kept.device)[None] < kept.long().sum(1, keepdim=True),
            moved(self.text_mask, 0),
            torch.where((self.mask_position < 0) | (at_mask == width), -1, at_mask),
            None if self.shift is None else moved(self.shift, 0),
        )
        return batch, place

    def windows(self, before: int, after: int, room: int, stride: int) -> tuple[EncodedBatch, Tensor]:
        """Texts that are longer than a window as several windows, each inside the template.

        Windows start every `stride` tokens, but that the last one ends where the text does.

        Args:
            before: tokens of the template before the text.
            after: tokens of the template after it.
            room: tokens of text in a window.
            stride: at most `room`, so that no token is left out.

        Returns:
            W windows, and (W,) the text that each is of; the batch itself where no text is longer.
        """
        hidden = (self.lengths - before - room - after).clamp(min=0)  # tokens that a single window would not show
        number = 1 + (hidden + stride - 1) // stride
        text = torch.repeat_interleave(torch.arange(len(self)), number)
        if len(text) == len(self):
            return self, text
        nth = torch.arange(len(text)) - (number.cumsum(0) - number)[text]
        start = torch.minimum(nth * stride, hidden[text])[:, None]
        lengths = (self.lengths - hidden)[text][:, None]
        place = torch.arange(int(lengths.max()))
        attention = place < lengths
        behind = place >= lengths - after
        column = place + torch.where(behind, hidden[text][:, None], torch.where(place < before, 0, start))
        column = column.clamp(max=self.input_ids.shape[1] - 1)

        def moved(part: Tensor, padding: int) -> Tensor:
            return part[text].gather(1, column).masked_fill(~attention, padding)

        position = self.mask_position[text]
        windows = EncodedBatch(
            moved(self.input_ids, 0),
            moved(self.prompt_index, -1),
            attention,
            moved(self.text_mask, 0),
            torch.where(position < before, position, position - hidden[text]),
            self.shift if self.shift is None else _put(self.shift[text[:, None], column][attention], attention),
        )
        return windows, text

    def keys(self) -> list[bytes]:
        """The token ids of each text as bytes: what a frozen model makes of it depends on nothing else."""
        ids = self.input_ids.numpy()
        return [row[:length].tobytes() for row, length in zip(ids, self.lengths.tolist(), strict=True)]

    def in_passes(self, max_tokens: int, read: Callable[[EncodedBatch, Tensor], Tensor]) -> Tensor:
        """What a function makes of the texts, (B, …), in passes of texts of about the same length.

        Args:
            max_tokens: of one pass, padding included.
            read: from some of the texts, and which rows they are, to their part of the result.
        """
        passes = self.passes(max_tokens)
        return torch.cat([read(self.select(rows), rows) for rows in passes])[torch.argsort(torch.cat(passes))]

    def passes(self, max_tokens: int) -> list[Tensor]:
        """Rows in the order of their length, cut where padding or the whole would grow too large.

        Args:
            max_tokens: of one pass, padding included; a longer text is a pass of its own.
        """
        order = torch.argsort(self.lengths, stable=True)
        cuts, tokens = [0], 0
        for row, length in enumerate(self.lengths[order].tolist()):
            padded = (row + 1 - cuts[-1]) * length
            wasteful = tokens >= WORTH_A_PASS and tokens + length < (1 - PADDING) * padded
            if row > cuts[-1] and (wasteful or padded > max_tokens):
                cuts.append(row)
                tokens = 0
            tokens += length
        return [order[start:end] for start, end in pairwise([*cuts, len(order)])]


def _put(vectors: Tensor, places: Tensor) -> Tensor:
    """Vectors where places (B, n) are true, zero elsewhere, (B, n, w)."""
    return vectors.new_zeros(*places.shape, vectors.shape[-1]).index_put((places,), vectors)
