"""How the models of one family are computed piece by piece: the input embeddings, the layers, the heads.

A backbone is never run as a whole. Prompts may enter below any layer, texts are read after several layers, and the last
layer may be needed at one position only. Whatever a family computes between its layers (relative positions, rotations,
a final norm) is therefore stated here, and tested against the model's own forward pass.
"""

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Protocol, TypedDict

import torch
from torch import Tensor

from metawarp.backbones.content_attention import ContentAttention

Layer = Callable[[Tensor], Tensor]
"""One layer: from its input states (B, n, h) to its output states."""

LayerWrapper = Callable[[int, Layer], Layer]
"""From the index of a layer, and the layer, to what is computed in its place."""

Observer = Callable[[int, Tensor], None]
"""Receives the number of a layer, from 1, and its output (B, n, h)."""


class Reading(TypedDict, total=False):
    """What is read of a forward pass beside the last hidden states."""

    head_at: Tensor | None
    """(B,), a position in each text: only the input of the masked-LM head there is computed."""
    observe: Observer | None
    """Receives the output of each layer."""


Head = Callable[[Tensor], Tensor]
"""From hidden states (…, h) to features (…, d) before the decoder (masked-LM head), or to one logit (…,) per token
(discriminator head)."""

LastLayer = Callable[[Any, Tensor, Tensor], Layer]
"""From encoder, hidden states (B, n, h) and attention mask (B, n) to what replaces the last layer for the head."""


class UnannouncedHead(Protocol):
    """A masked-LM head in checkpoints whose config does not mention it."""

    def config(self, config: Any, unread: Collection[str]) -> Any | None:
        """The config with which transformers also loads the head, made from that of the checkpoint. None if `unread`,
        the names of the weights that the encoder does not load, are not those of such a head."""
        ...

    def finish(self, model: Any, config: Any) -> LastLayer | None:
        """Prepare the loaded model; returns the replacement for its last layer, if the head needs one."""
        ...


class Family(Protocol):
    """How models of one family are computed. Inputs are padded on the right; `encoder` is the model without head."""

    name: ClassVar[str]
    """Name of the family."""
    query_value: ClassVar[tuple[str, ...]] = ("query", "value")
    """Endings of the names of the linear layers that compute queries and values."""
    projects_distances: ClassVar[bool] = False
    """Whether these layers also project embeddings of distances, which no text owns."""
    counts_behind_padding: ClassVar[bool] = False
    """Whether positions are counted from behind the padding id, as in RoBERTa, and not from 0."""
    reads_end_of_text: ClassVar[bool] = False
    """Whether {mask} stands for the end-of-text token, because the model has no [MASK]."""
    masked_lm_classes: ClassVar[tuple[str, ...]] = ("ForMaskedLM", "ForPreTraining")
    """Endings of the class names in a config that announce a masked-LM head."""
    discriminator_classes: ClassVar[tuple[str, ...]] = ()
    """Endings of the class names in a config that announce a discriminator with its head, as in ELECTRA."""
    discriminator_head: ClassVar[str] = ""
    """Attribute of a discriminator that holds its head."""
    unannounced_head: ClassVar[UnannouncedHead | None] = None
    """A head that some configs do not mention; None if there are no such checkpoints."""
    content_attention: Callable[[Any, int], ContentAttention | None] | None = None
    """From encoder and index of a layer to its attention, computed by hand; None if distances play a part in it."""

    @property
    def has_content_attention(self) -> bool:
        """Whether the attention of its layers can be computed by hand."""
        return self.content_attention is not None

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """Input states (B, n, h) of the first layer, from word embeddings (B, n, d); positions and types are added."""
        ...

    def embedding_factor(self, encoder: Any) -> Tensor | float:
        """The factor between word embeddings and what the model makes of them before positions are added."""
        return 1.0

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        """All layers, for hidden states of the shape of `hidden` (B, n, h); what they share is computed once."""
        ...

    def masked_lm_head(self, model: Any) -> Head:
        """The masked-LM head of a model, without its decoder."""
        ...


def positions_from(first: int, embeddings: Tensor) -> Tensor:
    """Position ids (1, n) of embeddings (B, n, d), counted from `first`."""
    return torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[None]


def first_position(encoder: Any) -> int:
    """Id of the first position of a model that counts from behind the padding id, as transformers' own code does."""
    return int(encoder.embeddings.padding_idx) + 1


def at_positions(hidden: Tensor, positions: Tensor) -> Tensor:
    """Hidden states (B, h) at one position (B,) of each text, from those of all positions (B, n, h)."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), positions]


def bidirectional_mask(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> Tensor | None:
    """The mask in the form that transformers' attention takes, from (B, n), true where there is a token."""
    from transformers.masking_utils import create_bidirectional_mask

    return create_bidirectional_mask(config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask)


def first_output(layer: Any, hidden: Tensor, **arguments: Any) -> Tensor:
    """Output (B, n, h) of a layer that returns a tuple."""
    return layer(hidden, **arguments)[0]
