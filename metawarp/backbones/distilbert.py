"""DistilBERT."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.family import Family, Head, Layer, all_positions, bidirectional_mask, masked


def _embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    return encoder.embeddings(None, embeddings, None)


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    return [partial(masked, layer, mask) for layer in encoder.transformer.layer]


def _n_layers(encoder: Any) -> int:
    return len(encoder.transformer.layer)


def _head(model: Any) -> Head:
    return partial(_features, model)


def _features(model: Any, hidden: Tensor) -> Tensor:
    return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))


DISTILBERT = Family(
    "DistilBERT", "distilbert", _embed, _layers, _n_layers, all_positions, _head, query_value=("q_lin", "v_lin")
)
