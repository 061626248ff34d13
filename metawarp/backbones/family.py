"""How the models of one family are taken apart: what enters the first layer, the layers one by one, the head.

A backbone is never run as a whole. Prompts may enter below any layer, texts alone are read after several, and the last
layer may be wanted at one position only; whatever a family's own forward pass does between its layers (relative
positions, rotations, a last norm) is therefore said here, and tested against that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metawarp.backbones.content_attention import ContentAttention

Layer = Callable[[Tensor], Tensor]
"""Hidden states (B, n, h) to those that leave it."""

Around = Callable[[int, Layer], Layer]
"""From a layer's number, and the layer, to what is done in its place."""

Head = Callable[[Tensor], Tensor]
"""Hidden states (…, h) to features (…, d), d the width of the word embeddings: a masked-LM head before its decoder. Or
to one number each, (…,): a discriminator's."""


Decoder = Callable[[Any, Tensor, Tensor], Layer]
"""From the encoder, hidden states (B, n, h) of the shape that will go through, and attention mask (B, n), to the layer
that stands in place of the last where a masked-LM head reads."""


@dataclass(frozen=True)
class Released:
    """How the masked-LM model of a checkpoint is had whose config says nothing of a head.

    Attributes:
        config: under which transformers finds it.
        decoder: what its head reads behind; None: the last layer.
        mend: takes the loaded model, and undoes what the config changed beside that.
    """

    config: Any
    decoder: Decoder | None
    mend: Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the models of one family are taken apart. Inputs are padded on the right.

    All callables are functions of a module, so that a backbone can be pickled.

    Attributes:
        name: of the family.
        encoder: attribute of the masked-LM model that holds the encoder without its head.
        embed: takes the encoder, word embeddings (B, n, d) and attention mask (B, n); what enters the first layer,
            (B, n, h), positions and types added.
        layers: takes the encoder, hidden states (B, n, h) of the shape that will go through, and attention mask; its
            layers, all that they share (masks, relative positions) computed once.
        n_layers: takes the encoder.
        max_positions: takes the encoder; number of tokens that one input may have.
        head: takes the masked-LM model.
        detector: takes the discriminator; from hidden states (…, h) to the logit (…,) of each that it was replaced.
        query_value: names of the linear layers that make queries and values, as they end.
        content_attention: takes the encoder and the number of a layer; its attention, taken apart. None, as what it
            returns: attention is not by content alone, or not of one layer.
        released: for checkpoints whose config says nothing of a head: takes that config, and the names of the weights
            that the encoder has no place for; None where there is no masked-LM model in them.
        headed: endings of the class names in a config that say that the checkpoint has the masked-LM head.
        detecting: those that say that it is a discriminator with its head.
    """

    name: str
    encoder: str
    embed: Callable[[Any, Tensor, Tensor], Tensor]
    layers: Callable[[Any, Tensor, Tensor], list[Layer]]
    n_layers: Callable[[Any], int]
    max_positions: Callable[[Any], int]
    head: Callable[[Any], Head]
    query_value: tuple[str, ...]
    content_attention: Callable[[Any, int], ContentAttention | None] | None = None
    released: Callable[[Any, Sequence[str]], Released | None] | None = None
    detector: Callable[[Any], Head] | None = None
    headed: tuple[str, ...] = ("ForMaskedLM", "ForPreTraining")
    detecting: tuple[str, ...] = ()


def positions_from(first: int, embeddings: Tensor) -> Tensor:
    """Positions (1, n) of embeddings (B, n, d), counted from `first`."""
    return torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[None]


def at_positions(hidden: Tensor, positions: Tensor) -> Tensor:
    """Hidden states (B, n, h) at one position of each text (B,), (B, h)."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), positions]


def bidirectional_mask(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> Tensor | None:
    """The mask that a family's attention takes, from (B, n) true where there is a token."""
    from transformers.masking_utils import create_bidirectional_mask

    return create_bidirectional_mask(config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask)


def embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Positions and types added by the model's own embeddings, in the model's own way."""
    return encoder.embeddings(inputs_embeds=embeddings)


def masked(layer: Any, mask: Tensor | None, hidden: Tensor) -> Tensor:
    """A layer that takes hidden states and a mask, and nothing else."""
    return layer(hidden, mask)


def all_positions(encoder: Any) -> int:
    """Those of a family that counts them from 0."""
    return int(encoder.config.max_position_embeddings)
