"""The layers of an encoder, run one by one: those below a prompt, those from it on, the last at one position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layers:
    """How the encoder of one family is taken apart.

    Attributes:
        embed: takes the encoder, input embeddings (B, n, d) and position ids; what enters the first layer, (B, n, h).
        stack: takes the encoder; its layers, each a function of hidden states and attention mask.
        last_at: takes the last layer, what enters it (B, n, h), attention mask (B, n) and one position of each text
            (B,); what leaves it there, (B, h), without the other positions. None: not known.
    """

    embed: Callable[[Any, Tensor, Tensor | None], Tensor]
    stack: Callable[[Any], Sequence[nn.Module]]
    last_at: Callable[[Any, Tensor, Tensor, Tensor], Tensor] | None = None

    def through(self, encoder: Any, hidden: Tensor, attention_mask: Tensor, first: int, end: int) -> Tensor:
        """Hidden states (B, n, h) after layers `first` … `end` - 1, from those that enter them."""
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask)
        for layer in self.stack(encoder)[first:end]:
            hidden = layer(hidden, mask)
        return hidden


def _bert_last_at(last: Any, hidden: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
    here = hidden[torch.arange(len(hidden), device=hidden.device), positions][:, None]
    attention = last.attention.self

    def heads(vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    mixed = nn.functional.scaled_dot_product_attention(
        heads(attention.query(here)),
        heads(attention.key(hidden)),
        heads(attention.value(hidden)),
        attn_mask=attention_mask[:, None, None, :].bool(),
        scale=attention.scaling,
    )
    return last.feed_forward_chunk(last.attention.output(mixed.transpose(1, 2).flatten(2), here))[:, 0]


def _bert_embed(encoder: Any, embeddings: Tensor, positions: Tensor | None) -> Tensor:
    return encoder.embeddings(inputs_embeds=embeddings, position_ids=positions)


def _bert_stack(encoder: Any) -> Sequence[nn.Module]:
    return encoder.encoder.layer


def _distilbert_embed(encoder: Any, embeddings: Tensor, positions: Tensor | None) -> Tensor:
    return encoder.embeddings(None, embeddings, positions)


def _distilbert_stack(encoder: Any) -> Sequence[nn.Module]:
    return encoder.transformer.layer


# Named functions, so that a backbone can be pickled.
BERT = Layers(_bert_embed, _bert_stack, _bert_last_at)
DISTILBERT = Layers(_distilbert_embed, _distilbert_stack)
