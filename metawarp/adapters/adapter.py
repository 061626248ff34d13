"""What an adapter is: its parameters with their shapes, where they start, and how they change the forward pass.

A task has one tensor of adapter values. Inner loops update it and outer loops learn where it starts, without knowing
its parts; `split` gives an adapter the parts by name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, Unpack

import torch
from torch import Tensor

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch

TextReader = Callable[[EncodedBatch], Tensor]
"""From B texts to what a frozen model computes of them."""

Parts = dict[str, Tensor]
"""The parts of an adapter by name, each (T, …) for T tasks, or without the task dimension for their start."""


@dataclass(frozen=True, eq=False)
class AdapterContext:
    """The model that an adapter is bound to.

    Attributes:
        backbone: the frozen encoder.
        empty: an empty text in its template.
        layer: index of the first layer that the adapter changes.
        lower: output (B, n, h) of the layers below that layer; None if there are none.
        sentence: sentence embeddings (B, s) of the bare texts, alone in a tuple.
        size: rank, or number of prompts; None for adapters without a size.
    """

    backbone: Backbone
    empty: EncodedBatch
    layer: int
    lower: TextReader | None
    sentence: Callable[[EncodedBatch], tuple[Tensor, ...]]
    size: int | None = None

    @cached_property
    def n_soft_tokens(self) -> int:
        """Number K of soft tokens in the template."""
        return int(self.empty.prompt_index.max()) + 1

    @property
    def width(self) -> int:
        """Width w of the input states of the adapter's first layer: d of word embeddings, or h of hidden states."""
        return self.backbone.hidden_size if self.layer else self.backbone.embedding_size

    def entering(self, batch: EncodedBatch, dtype: torch.dtype) -> Tensor:
        """Input states (B, n, w) of the adapter's first layer, without soft tokens."""
        states = self.backbone.embed_tokens(batch.input_ids) if self.lower is None else self.lower(batch)
        states = states.to(dtype)
        if batch.perturbation is None:
            return states
        return states + batch.perturbation * states.norm(dim=-1, keepdim=True)

    def entering_with(self, soft_tokens: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
        """The same states with the soft tokens (T, K, w) of each text's task at their places in the template."""
        return insert_soft_tokens(soft_tokens, self.entering(batch, soft_tokens.dtype), batch, task)

    def soft_tokens_at(self, layer: int, soft_tokens: Tensor) -> Tensor:
        """Soft tokens (K, d) around an empty text as they enter a layer, (K, h); unchanged for layer 0."""
        return self.states_at(layer, soft_tokens) if layer else soft_tokens

    def states_at(self, layer: int, soft_tokens: Tensor) -> Tensor:
        """Input states (K, h) of a layer at the places of soft tokens (K, d) around an empty text."""
        batch = self.empty.to(self.backbone.device)
        embeddings = self.backbone.embed_tokens(batch.input_ids)
        places = batch.prompt_index >= 0
        embeddings[places] = soft_tokens[batch.prompt_index[places]].to(embeddings)
        return self.backbone.run_layers(embeddings, batch.attention_mask, 0, layer)[places].to(soft_tokens)

    def require_soft_tokens(self) -> None:
        """Check that the template has soft tokens, for adapters that consist of them."""
        if not self.n_soft_tokens:
            raise InputError("This adapter consists of the template's soft tokens, but there are none; add {prompt:8}.")


class Adapter(Protocol):
    """An adapter, bound to a model."""

    size_meaning: ClassVar[str | None] = None
    """What `adapter_size` is for this adapter, such as "rank"; None if it has no size."""
    soft_token_parts: ClassVar[tuple[str, ...]] = ("prompt",)
    """Names of the parts that are soft tokens, (…, K, w); an adapter need not have all of them."""
    has_places: ClassVar[bool] = True
    """Whether the layers see soft tokens at their places in the template; otherwise these places are removed."""
    context: AdapterContext
    """The model that it is bound to."""

    def __init__(self, context: AdapterContext) -> None:
        """Bind the adapter to a model; InputError if the model does not support it."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each part, for one task."""
        ...

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """The parts that learning starts from. `soft_tokens` (K, d) are the soft tokens that the config starts from, in
        the space of the word embeddings; `generator` draws the random numbers that an adapter needs."""
        ...

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        """Last hidden states (B, n, h), or the input of the masked-LM head at one position of each text, (B, h).

        The parts are those of T tasks, or of one that all texts share. The batch holds B visible texts on the
        backbone's device, and task (B,) the index of each text's task. `observe` receives the output of each layer from
        the adapter's first one on.
        """
        ...


def visible(adapter: Adapter, batch: EncodedBatch) -> EncodedBatch:
    """The texts as the layers see them under an adapter."""
    return batch if adapter.has_places else batch.keep(batch.without_soft_tokens)


def adapter_shape(adapter: Adapter) -> tuple[int, ...]:
    """Shape of the adapter values of one task: that of its only part, or the number of all values."""
    shapes = list(adapter.shapes.values())
    return shapes[0] if len(shapes) == 1 else (n_values(adapter),)


def n_values(adapter: Adapter) -> int:
    """Number of adapter values of one task."""
    return sum(math.prod(shape) for shape in adapter.shapes.values())


def join(adapter: Adapter, parts: Parts) -> Tensor:
    """The adapter values of one task, from its parts."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    return torch.cat([parts[name].flatten() for name in adapter.shapes])


def split(adapter: Adapter, values: Tensor) -> Parts:
    """The parts of T tasks, from their adapter values (T, …)."""
    shapes = adapter.shapes
    if len(shapes) == 1:
        return dict.fromkeys(shapes, values)
    pieces = zip(shapes.items(), values.split([math.prod(shape) for shape in shapes.values()], dim=1), strict=True)
    return {name: piece.unflatten(1, shape) if shape else piece[:, 0] for (name, shape), piece in pieces}


def insert_soft_tokens(soft_tokens: Tensor, states: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
    """States (B, n, w) with the soft tokens (T, K, w) of each text's task at their places in the template."""
    if not soft_tokens.shape[1]:
        return states
    inserted = soft_tokens[task[:, None], batch.prompt_index.clamp(min=0)]
    return torch.where(batch.prompt_index[..., None] >= 0, inserted, states)
