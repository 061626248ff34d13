"""DeBERTa, versions 1 to 3: attention by content and distance, embeddings that padding has no part in.

Version 3 is a discriminator (He, Gao, Chen, 2021): its checkpoints carry no head that predicts words, and are read as
plain encoders.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from metawarp.backbones.bert import n_layers
from metawarp.backbones.family import Family, Head, Layer, all_positions


def _embed(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    return encoder.embeddings(inputs_embeds=embeddings, mask=attention_mask)


def _layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    stack = encoder.encoder
    mask = stack.get_attention_mask(attention_mask.long())
    distances, relative = stack.get_rel_pos(hidden), stack.get_rel_embedding()
    found: list[Layer] = [partial(_through, layer, mask, distances, relative) for layer in stack.layer]
    if getattr(stack, "conv", None) is not None:  # version 2, xlarge and larger: beside the first layer
        found[0] = partial(_convolved, stack.conv, attention_mask.long(), found[0])
    return found


def _through(layer: Any, mask: Tensor, distances: Tensor, relative: Tensor, hidden: Tensor) -> Tensor:
    return layer(hidden, mask, relative_pos=distances, rel_embeddings=relative)[0]


def _convolved(conv: Any, mask: Tensor, layer: Layer, hidden: Tensor) -> Tensor:
    return conv(hidden, layer(hidden), mask)


def _head(model: Any) -> Head:
    if hasattr(model, "cls"):  # "legacy" in its config
        return model.cls.predictions.transform
    return partial(_features, model.lm_predictions.lm_head)


def _features(head: Any, hidden: Tensor) -> Tensor:
    return head.LayerNorm(head.transform_act_fn(head.dense(hidden)))


DEBERTA = Family(
    "DeBERTa",
    "deberta",
    _embed,
    _layers,
    n_layers,
    all_positions,
    _head,
    query_value=("query_proj", "value_proj", "in_proj"),
)
