"""ALBERT: layers that share their weights; word embeddings, and so the prompt, narrower than the hidden states."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.bert import QUERY_VALUE
from metawarp.backbones.family import Family, Head, Layer, all_positions, bidirectional_mask, embed, masked


def _embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    return encoder.encoder.embedding_hidden_mapping_in(embed(encoder, embeddings, attention_mask))


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    groups = encoder.encoder.albert_layer_groups
    number = _n_layers(encoder)
    return [partial(masked, groups[layer * len(groups) // number], mask) for layer in range(number)]


def _n_layers(encoder: Any) -> int:
    return int(encoder.config.num_hidden_layers)


def _head(model: Any) -> Head:
    return partial(_features, model.predictions)


def _features(head: Any, hidden: Tensor) -> Tensor:
    return head.LayerNorm(head.activation(head.dense(hidden)))


ALBERT = Family("ALBERT", "albert", _embed, _layers, _n_layers, all_positions, _head, query_value=QUERY_VALUE)
