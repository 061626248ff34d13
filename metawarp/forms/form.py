"""What a form of prompt is: its numbers by name, with their shapes, and how they enter the forward pass.

A task has one tensor of numbers that its prompt is made of, "prompt" in every state. Inner loops move it, outer loops
learn where it starts, and neither knows what stands in it; a form does.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.texts.encoded import EncodedBatch

Reader = Callable[[EncodedBatch], Tensor]
"""From texts to what a frozen model makes of them, cached or not."""

Parts = dict[str, Tensor]
"""The numbers of a form by name, each (T, …) of T tasks, or without the tasks where they start."""


@dataclass(eq=False)
class Form(ABC):
    """A form, bound to a model. One in a file of its own; `forms.FORMS` has their names.

    Args:
        backbone: frozen.
        empty: an empty text in its template.
        layer: the first that the prompt takes part in.
        lower: what the layers below that one make of texts, (B, n, h); None where there are none.
        sentence: the frozen embeddings of the texts alone, (B, 1, h).
        number: what stands behind the form's name in a config, such as the 8 of "pool:8"; None where nothing does.
    """

    backbone: Backbone
    empty: EncodedBatch
    layer: int
    lower: Reader | None
    sentence: Reader
    number: int | None = None

    counts: ClassVar[str | None] = None
    """What `number` is a number of; None where the form has none."""

    soft_parts: ClassVar[tuple[str, ...]] = ("prompt",)
    """Which of its parts, where it has them, are soft tokens in a row, (…, K, w)."""

    needs_soft_tokens: ClassVar[bool] = False
    """Whether it is nothing without soft tokens in the template."""

    def __post_init__(self) -> None:
        """Count soft tokens, and refuse what the form cannot be had with."""
        self.n_soft = int(self.empty.prompt_index.max()) + 1
        """K, the number of soft tokens of the template."""
        if self.needs_soft_tokens and not self.n_soft:
            raise InputError("this form is made of the template's soft tokens, and there are none; add {prompt:8}.")

    @property
    def width(self) -> int:
        """Of what enters the form's first layer: d of word embeddings, or h of hidden states."""
        return self.backbone.hidden_size if self.layer else self.backbone.embedding_size

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each part, for one task."""

    @abstractmethod
    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """What learning starts from.

        Args:
            soft: (K, d) soft tokens as the config lets them start, in the space of the word embeddings.
            generator: for what starts from chance.
        """

    @abstractmethod
    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """Last hidden states (B, n, h) of texts under the prompts of their tasks, or what the head reads, (B, h).

        Args:
            parts: of T tasks, or of one that all texts share.
            batch: B texts, on the backbone's device.
            task: (B,) which of the T each belongs to.
            head_at: (B,) where the head reads, as `Backbone.hidden_states` takes it; None: all are wanted.
        """

    def with_readers(self, lower: Reader | None, sentence: Reader) -> Form:
        """The same form, around others that read texts."""
        found = copy.copy(self)
        found.lower, found.sentence = lower, sentence
        return found

    def shown(self, batch: EncodedBatch) -> EncodedBatch:
        """The texts as the layers see them: where soft tokens are no tokens, without their places."""
        return batch

    @property
    def shape(self) -> tuple[int, ...]:
        """Of "prompt": that of its only part, or the number of all numbers, part after part."""
        shapes = list(self.shapes.values())
        return shapes[0] if len(shapes) == 1 else (self.size,)

    @property
    def size(self) -> int:
        """How many numbers a task has in it."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def joined(self, parts: Parts) -> Tensor:
        """The parts of one task as its "prompt"."""
        if len(parts) == 1:
            return next(iter(parts.values()))
        return torch.cat([parts[name].flatten() for name in self.shapes])

    def parted(self, prompts: Tensor) -> Parts:
        """The "prompt" of T tasks, (T, …), as its parts."""
        if len(self.shapes) == 1:
            return {name: prompts for name in self.shapes}
        pieces = prompts.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: piece.unflatten(1, shape) if shape else piece[:, 0]
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def entering(self, batch: EncodedBatch, dtype: torch.dtype) -> Tensor:
        """What enters the form's first layer of the texts alone: word embeddings (B, n, d), or hidden states."""
        entering = self.backbone.embedded(batch.input_ids) if self.lower is None else self.lower(batch)
        entering = entering.to(dtype)
        return entering if batch.shift is None else entering + batch.shift * entering.norm(dim=-1, keepdim=True)

    def left_by(self, soft: Tensor, layer: int) -> Tensor:
        """Soft tokens (K, d) as the layers below the given one leave them, (K, h); below the first, as they are."""
        return self.states_of(soft, layer) if layer else soft

    def states_of(self, soft: Tensor, layer: int) -> Tensor:
        """Hidden states (K, h) of soft tokens (K, d) around an empty text, as they enter a layer."""
        batch = self.empty.to(self.backbone.device)
        embeddings = self.backbone.embedded(batch.input_ids)
        places = batch.prompt_index >= 0
        embeddings[places] = soft[batch.prompt_index[places]].to(embeddings)
        return self.backbone.through(embeddings, batch.attention_mask, 0, layer)[places].to(soft)


def placed(soft: Tensor, hidden: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
    """Soft tokens (T, K, w) where the template has them among hidden states (B, n, w)."""
    if not soft.shape[1]:
        return hidden
    there = soft[task[:, None], batch.prompt_index.clamp(min=0)]
    return torch.where(batch.prompt_index[..., None] >= 0, there, hidden)
