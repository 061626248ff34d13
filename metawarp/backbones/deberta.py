"""DeBERTa, versions 1 to 3: attention by content and distance, embeddings that padding has no part in.

Version 3 is a discriminator (He, Gao, Chen, 2021): the head in its checkpoints does not predict words, and it is read
as a plain encoder.

References:
    He, Liu, Gao, Chen (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 3.2: where a
    word is predicted, the last layer is applied twice to what enters it, and the queries begin with absolute positions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metawarp.backbones.bert import n_layers
from metawarp.backbones.family import Family, Head, Layer, Released, all_positions, positions_from

MASKED_LM, DETECTOR = "lm_predictions.lm_head.", "mask_predictions."
"""What the names of the weights of either head begin with, in what Microsoft published."""


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


def _decoder(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> Layer:
    stack = encoder.encoder
    positions = encoder.embeddings.position_embeddings(positions_from(0, hidden))
    around = stack.get_attention_mask(attention_mask.long()), stack.get_rel_pos(hidden), stack.get_rel_embedding()
    return partial(_decoded, stack.layer[-1], positions, around)


def _decoded(layer: Any, positions: Tensor, around: tuple[Any, ...], hidden: Tensor) -> Tensor:
    once = _queried(layer, hidden + positions, around, hidden)
    return _queried(layer, once, around, hidden)


def _queried(layer: Any, queries: Tensor, around: tuple[Any, ...], hidden: Tensor) -> Tensor:
    """What a layer makes of queries (B, n, h) that look at hidden states (B, n, h)."""
    mask, distances, relative = around
    if not hasattr(layer.attention.self, "in_proj"):
        return layer(hidden, mask, query_states=queries, relative_pos=distances, rel_embeddings=relative)[0]
    # What transformers has for queries of their own fails on batches in version 1. A copy, since others may be reading.
    attention = copy.copy(layer.attention.self)
    projection = _WithQueries(attention.in_proj, queries, attention.attention_head_size)
    attention._modules = {**attention._modules, "in_proj": projection}
    mixed = attention(hidden, mask, relative_pos=distances, rel_embeddings=relative)[0]
    attended = layer.attention.output(mixed, queries)
    return layer.output(layer.intermediate(attended), attended)


class _WithQueries(nn.Module):
    """A projection to queries, keys and values, those of a head side by side, with queries of other states."""

    def __init__(self, projection: nn.Module, queries: Tensor, size: int) -> None:
        super().__init__()
        self.projection, self.queries, self.size = projection, queries, size

    def forward(self, hidden: Tensor) -> Tensor:
        found = self.projection(hidden)
        place = torch.arange(found.shape[-1], device=found.device) % (3 * self.size)
        return torch.where(place < self.size, self.projection(self.queries), found)


def _released(config: Any, unread: Sequence[str]) -> Released | None:
    """What Microsoft published names its heads otherwise than transformers, and its config names none."""
    if not any(name.startswith(MASKED_LM) for name in unread) or any(name.startswith(DETECTOR) for name in unread):
        return None
    loaded = copy.deepcopy(config)
    loaded.legacy = False
    if config.position_biased_input:
        return Released(loaded, None, _as_it_is)
    loaded.position_biased_input = True  # or the positions, which the decoder needs, would not be loaded
    return Released(loaded, _decoder, _without_positions_at_the_input)


def _as_it_is(model: Any) -> None:
    pass


def _without_positions_at_the_input(model: Any) -> None:
    model.deberta.embeddings.position_biased_input = False


def _head(model: Any) -> Head:
    if hasattr(model, "cls"):  # "legacy" in its config
        return model.cls.predictions.transform
    return partial(_features, model.lm_predictions.lm_head)


def _features(head: Any, hidden: Tensor) -> Tensor:
    return head.LayerNorm(head.transform_act_fn(head.dense(hidden)))


DEBERTA = Family(
    name="DeBERTa",
    encoder="deberta",
    embed=_embed,
    layers=_layers,
    n_layers=n_layers,
    max_positions=all_positions,
    head=_head,
    query_value=("query_proj", "value_proj", "in_proj"),
    released=_released,
)
