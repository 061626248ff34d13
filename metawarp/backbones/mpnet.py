"""MPNet: RoBERTa's positions, and a bias for the distance of two tokens that all layers share."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.bert import embed_behind_padding, lm_head, n_layers, positions_behind_padding
from metawarp.backbones.family import Family, Layer, bidirectional_mask


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    bias = encoder.encoder.compute_position_bias(hidden)
    return [partial(_through, layer, mask, bias) for layer in encoder.encoder.layer]


def _through(layer: Any, mask: Tensor | None, bias: Tensor, hidden: Tensor) -> Tensor:
    return layer(hidden, mask, bias)[0]


MPNET = Family(
    name="MPNet",
    encoder="mpnet",
    embed=embed_behind_padding,
    layers=_layers,
    n_layers=n_layers,
    max_positions=positions_behind_padding,
    head=lm_head,
    query_value=("attn.q", "attn.v"),
)
