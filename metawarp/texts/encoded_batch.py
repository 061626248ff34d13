"""A batch of texts as token ids inside their template, and how it is divided into forward passes."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor

MIN_PASS_TOKENS, MAX_PADDING = 512, 0.05
"""A pass of at least this many tokens ends before padding becomes a larger share of it. Padding is then 8 % over an
episode of HuffPost (5-way, 5 shots, 15 queries), where passes of up to 2,048 tokens alone had 16 % (measured)."""


@dataclass(frozen=True)
class EncodedBatch:
    """B texts inside their template, padded on the right to n tokens.

    Attributes:
        input_ids: (B, n) token ids; the padding id at the places of soft tokens.
        prompt_index: (B, n) index 0 … K-1 of the soft token at each place; -1 where there is none.
        attention_mask: (B, n), true where there is a token.
        text_mask: (B, n), true at the tokens of the text and at the model's own special tokens around it: what a
            sentence encoder averages.
        mask_position: (B,) position of [MASK]; -1 in a template without it.
        perturbation: (B, n, w) displacement of each token's input state at the adapter's first layer, as a multiple of
            the state's length; None: no displacement.
    """

    input_ids: Tensor
    prompt_index: Tensor
    attention_mask: Tensor
    text_mask: Tensor
    mask_position: Tensor
    perturbation: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each text with its template, (B,)."""
        return self.attention_mask.sum(1)

    @property
    def without_soft_tokens(self) -> Tensor:
        """(B, n), true where there is a token that is not a soft token."""
        return self.attention_mask & (self.prompt_index < 0)

    def select(self, rows: Tensor) -> "EncodedBatch":
        """The rows with the given indices (R,), without padding that they do not need."""
        width = int(self.lengths[rows].max())
        return self._changed(lambda tensor: tensor[rows][:, :width] if tensor.dim() > 1 else tensor[rows])

    def to(self, device: torch.device) -> "EncodedBatch":
        """The batch on another device."""
        return self._changed(lambda tensor: tensor.to(device))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "EncodedBatch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return EncodedBatch(**{name: change(tensor) for name, tensor in tensors.items() if tensor is not None})

    def keep(self, kept: Tensor) -> "EncodedBatch":
        """The same texts with only the tokens where `kept` (B, n) is true, without unneeded padding."""
        return self.packed(kept)[0].select(torch.arange(len(self)))

    def packed(self, kept: Tensor) -> "tuple[EncodedBatch, Tensor]":
        """Like `keep`, but of the same width, by operations that torch's exporter can trace.

        Also returns the new column (B, n) of each kept token; n for the others.
        """
        width = kept.shape[1]
        column = torch.where(kept, kept.long().cumsum(1) - 1, width)
        places = torch.arange(width, device=kept.device)[None]
        # Dropped tokens go to an additional column, which is cut off.
        source = column.new_zeros(kept.shape[0], width + 1).scatter(1, column, places.expand_as(column))[:, :width]
        at_mask = column.gather(1, self.mask_position.clamp(min=0)[:, None])[:, 0]
        mask_position = torch.where((self.mask_position < 0) | (at_mask == width), -1, at_mask)
        return self._rearranged(source, places < kept.long().sum(1, keepdim=True), mask_position), column

    def windows(self, before: int, after: int, room: int, stride: int) -> "tuple[EncodedBatch, Tensor]":
        """The texts divided into W windows of at most `room` text tokens, and the index (W,) of the text of each
        window.

        Each window is inside the template, which has `before` tokens before the text and `after` tokens after it.
        Windows start every `stride` tokens, at most `room`; the last one ends where the text ends.
        """
        surplus = (self.lengths - before - room - after).clamp(min=0)  # tokens that do not fit into one window
        number = 1 + (surplus + stride - 1) // stride
        text = torch.repeat_interleave(torch.arange(len(self)), number)
        if len(text) == len(self):
            return self, text
        nth = torch.arange(len(text)) - (number.cumsum(0) - number)[text]
        lengths, surplus = (self.lengths - surplus)[text, None], surplus[text, None]
        place = torch.arange(int(lengths.max()))
        skipped = torch.where(place < before, 0, torch.minimum(nth[:, None] * stride, surplus))
        source = place + torch.where(place < lengths - after, skipped, surplus)
        repeated = self._changed(lambda tensor: tensor[text])
        position = repeated.mask_position
        mask_position = torch.where(position < before, position, position - surplus[:, 0])
        source = source.clamp(max=self.input_ids.shape[1] - 1)
        return repeated._rearranged(source, place < lengths, mask_position), text

    def _rearranged(self, source: Tensor, attention_mask: Tensor, mask_position: Tensor) -> "EncodedBatch":
        """Each place has the token of the column `source` (B, m), or is padding where `attention_mask` is false."""

        def moved(tensor: Tensor, padding: int) -> Tensor:
            return tensor.gather(1, source).masked_fill(~attention_mask, padding)

        perturbation = self.perturbation
        if perturbation is not None:
            column = source.to(perturbation.device)[..., None].expand(-1, -1, perturbation.shape[2])
            padding = ~attention_mask.to(perturbation.device)[..., None]
            perturbation = perturbation.gather(1, column).masked_fill(padding, 0)
        input_ids, prompt_index = moved(self.input_ids, 0), moved(self.prompt_index, -1)
        text_mask = moved(self.text_mask, False)
        return EncodedBatch(input_ids, prompt_index, attention_mask, text_mask, mask_position, perturbation)

    def keys(self) -> list[bytes]:
        """The token ids of each text as bytes; what frozen layers compute depends on nothing else."""
        ids = self.input_ids.numpy()
        return [row[:length].tobytes() for row, length in zip(ids, self.lengths.tolist(), strict=True)]

    def in_passes(self, max_tokens: int, compute: "Callable[[EncodedBatch, Tensor], Tensor]") -> Tensor:
        """The results (B, …) of a function, computed in passes of at most `max_tokens` tokens; see `passes`.

        The function returns the results of some of the texts, from these texts and their indices.
        """
        passes = self.passes(max_tokens)
        return torch.cat([compute(self.select(rows), rows) for rows in passes])[torch.argsort(torch.cat(passes))]

    def passes(self, max_tokens: int) -> list[Tensor]:
        """Indices of the texts of each pass, in the order of their length.

        A pass has at most `max_tokens` tokens, padding included; a longer text is a pass of its own.
        """
        order = torch.argsort(self.lengths, stable=True)
        ends, tokens = [0], 0
        for row, length in enumerate(self.lengths[order].tolist()):
            padded = (row + 1 - ends[-1]) * length
            wasteful = tokens >= MIN_PASS_TOKENS and tokens + length < (1 - MAX_PADDING) * padded
            if row > ends[-1] and (wasteful or padded > max_tokens):
                ends.append(row)
                tokens = 0
            tokens += length
        return [order[start:end] for start, end in pairwise([*ends, len(order)])]
