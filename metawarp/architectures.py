"""What differs from one model type to the next: where the masked-LM head is, and how positions are counted.

A type that is not listed is an error, never a guess: a head read at the wrong place still gives numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """How one `model_type` of transformers is read.

    Attributes:
        encoder: attribute of the masked-LM model that holds the encoder without its head.
        head: takes the masked-LM model, returns the function from hidden states (…, h) to features (…, d):
            everything of the head before its decoder. d is the width of the word embeddings.
        position_offset: takes the encoder; position of the first token, where positions have to be passed
            because the model would otherwise count them from `input_ids`. None: the model counts by itself.
        at_one_position: takes the encoder, input embeddings (B, n, d), attention mask (B, n), position ids and one
            position of each text (B,); the last hidden states there, (B, h), without those at the other positions.
            None: not known.
    """

    encoder: str
    head: Callable[[nn.Module], Callable[[Tensor], Tensor]]
    position_offset: Callable[[nn.Module], int] | None = None
    at_one_position: Callable[[nn.Module, Tensor, Tensor, Tensor | None, Tensor], Tensor] | None = None


def _bert_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return model.cls.predictions.transform  # pyright: ignore


def _roberta_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    head = model.lm_head
    return lambda hidden: head.layer_norm(nn.functional.gelu(head.dense(hidden)))  # pyright: ignore


def _distilbert_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda hidden: model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))  # pyright: ignore


def _bert_at_one_position(
    encoder: Any, embeddings: Tensor, attention_mask: Tensor, position_ids: Tensor | None, positions: Tensor
) -> Tensor:
    # All layers but the last as the model runs them; query, output and feed-forward of the last at one position alone.
    from transformers.masking_utils import create_bidirectional_mask

    hidden = encoder.embeddings(inputs_embeds=embeddings, position_ids=position_ids)
    mask = create_bidirectional_mask(config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask)
    *below, last = encoder.encoder.layer
    for layer in below:
        hidden = layer(hidden, mask)
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


def _after_padding(encoder: nn.Module) -> int:
    # RoBERTa counts positions from padding_idx + 1 (transformers, `create_position_ids_from_input_ids`).
    return int(encoder.embeddings.padding_idx) + 1  # pyright: ignore


_ROBERTA = Architecture("roberta", _roberta_head, _after_padding, _bert_at_one_position)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture("bert", _bert_head, at_one_position=_bert_at_one_position),
    "camembert": _ROBERTA,
    "distilbert": Architecture("distilbert", _distilbert_head),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def position_ids(architecture: Architecture, encoder: nn.Module, embeddings: Tensor) -> Tensor | None:
    """Positions (1, n) for embeddings (B, n, d) padded on the right, or None where the model counts by itself."""
    if architecture.position_offset is None:
        return None
    first = architecture.position_offset(encoder)
    return torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[None]
