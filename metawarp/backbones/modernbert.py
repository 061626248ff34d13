"""ModernBERT: rotated positions, layers that see all or a window, a norm behind the last."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.family import Family, Head, Layer, all_positions, bidirectional_mask, embed, positions_from


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    from transformers.masking_utils import create_bidirectional_sliding_window_mask

    masks = {
        "full_attention": bidirectional_mask(encoder, hidden, attention_mask),
        "sliding_attention": create_bidirectional_sliding_window_mask(
            config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask
        ),
    }
    positions = positions_from(0, hidden)
    rotations = {kind: encoder.rotary_emb(hidden, positions, kind) for kind in set(encoder.config.layer_types)}
    found: list[Layer] = [
        partial(_through, layer, masks[layer.attention_type], rotations[layer.attention_type])
        for layer in encoder.layers
    ]
    found[-1] = partial(_normed, encoder.final_norm, found[-1])
    return found


def _through(layer: Any, mask: Tensor | None, rotation: tuple[Tensor, Tensor], hidden: Tensor) -> Tensor:
    return layer(hidden, attention_mask=mask, position_embeddings=rotation)


def _normed(norm: Any, layer: Layer, hidden: Tensor) -> Tensor:
    return norm(layer(hidden))


def _n_layers(encoder: Any) -> int:
    return len(encoder.layers)


def _head(model: Any) -> Head:
    return model.head


MODERNBERT = Family(
    name="ModernBERT",
    encoder="model",
    embed=embed,
    layers=_layers,
    n_layers=_n_layers,
    max_positions=all_positions,
    head=_head,
    query_value=("Wqkv",),
)
