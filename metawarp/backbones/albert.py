"""ALBERT: layers that share their weights; word embeddings, and so the prompt, narrower than the hidden states."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.bert import QUERY_VALUE
from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Family, Head, Layer, all_positions, bidirectional_mask, embed, masked


def _embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    return encoder.encoder.embedding_hidden_mapping_in(embed(encoder, embeddings, attention_mask))


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    return [partial(masked, _group(encoder, number), mask) for number in range(_n_layers(encoder))]


def _group(encoder: Any, number: int) -> Any:
    groups = encoder.encoder.albert_layer_groups
    return groups[number * len(groups) // _n_layers(encoder)]


def _content_attention(encoder: Any, number: int) -> ContentAttention | None:
    layers = _group(encoder, number).albert_layers
    if len(layers) > 1:  # as no published model has it
        return None
    attention = layers[0].attention
    finish = partial(_finish, layers[0])
    return ContentAttention(attention.query, attention.key, attention.value, attention.num_attention_heads, finish)


def _finish(layer: Any, mixed: Tensor, here: Tensor) -> Tensor:
    attended = layer.attention.LayerNorm(here + layer.attention.dense(mixed))
    return layer.full_layer_layer_norm(layer.ff_chunk(attended) + attended)


def _n_layers(encoder: Any) -> int:
    return int(encoder.config.num_hidden_layers)


def _head(model: Any) -> Head:
    return partial(_features, model.predictions)


def _features(head: Any, hidden: Tensor) -> Tensor:
    return head.LayerNorm(head.activation(head.dense(hidden)))


ALBERT = Family(
    name="ALBERT",
    encoder="albert",
    embed=_embed,
    layers=_layers,
    n_layers=_n_layers,
    max_positions=all_positions,
    head=_head,
    query_value=QUERY_VALUE,
    content_attention=_content_attention,
)
