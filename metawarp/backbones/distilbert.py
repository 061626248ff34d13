"""DistilBERT."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Family, Head, Layer, all_positions, bidirectional_mask, masked


def _embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    return encoder.embeddings(None, embeddings, None)


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    return [partial(masked, layer, mask) for layer in encoder.transformer.layer]


def _n_layers(encoder: Any) -> int:
    return len(encoder.transformer.layer)


def _content_attention(encoder: Any, number: int) -> ContentAttention:
    block = encoder.transformer.layer[number]
    attention = block.attention
    return ContentAttention(
        attention.q_lin, attention.k_lin, attention.v_lin, attention.n_heads, partial(_finish, block)
    )


def _finish(block: Any, mixed: Tensor, here: Tensor) -> Tensor:
    attended = block.sa_layer_norm(block.attention.out_lin(mixed) + here)
    return block.output_layer_norm(block.ffn(attended) + attended)


def _head(model: Any) -> Head:
    return partial(_features, model)


def _features(model: Any, hidden: Tensor) -> Tensor:
    return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))


DISTILBERT = Family(
    name="DistilBERT",
    encoder="distilbert",
    embed=_embed,
    layers=_layers,
    n_layers=_n_layers,
    max_positions=all_positions,
    head=_head,
    query_value=("q_lin", "v_lin"),
    content_attention=_content_attention,
)
