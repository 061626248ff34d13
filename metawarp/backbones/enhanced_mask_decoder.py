"""DeBERTa as Microsoft published it: a masked-LM head behind the enhanced mask decoder.

The config of these checkpoints mentions no head, and their head has other names than in transformers; both are
recognized by the names of the weights.

References:
    He, Liu, Gao, Chen (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 3.2: where a
    word is predicted, the last layer is applied twice to its input, and the queries start from absolute positions.
"""

import copy
from collections.abc import Collection
from typing import Any, final

import torch
from torch import Tensor

from metawarp.backbones.family import LastLayer, Layer, UnannouncedHead, positions_from

MASKED_LM, DISCRIMINATOR = "lm_predictions.lm_head.", "mask_predictions."
"""Prefixes of the names of the weights of either head in Microsoft's checkpoints."""


@final
class PublishedDeberta(UnannouncedHead):
    """Microsoft's checkpoints of versions 1 and 2."""

    def config(self, config: Any, unread: Collection[str]) -> Any | None:
        heads = {prefix for prefix in (MASKED_LM, DISCRIMINATOR) if any(name.startswith(prefix) for name in unread)}
        if heads != {MASKED_LM}:
            return None
        loaded = copy.deepcopy(config)
        loaded.legacy = False
        loaded.position_biased_input = True  # otherwise the positions, which the decoder needs, would not be loaded
        return loaded

    def finish(self, model: Any, config: Any) -> LastLayer | None:
        if config.position_biased_input:
            return None
        model.deberta.embeddings.position_biased_input = False
        return enhanced_mask_decoder


def enhanced_mask_decoder(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> Layer:
    """The decoder as a replacement for the last layer; see `LastLayer`."""
    stack, layer = encoder.encoder, encoder.encoder.layer[-1]
    positions = encoder.embeddings.position_embeddings(positions_from(0, hidden))
    context = stack.get_attention_mask(attention_mask.long()), stack.get_rel_pos(hidden), stack.get_rel_embedding()

    def decoded(hidden: Tensor) -> Tensor:
        once = _with_queries(layer, hidden + positions, context, hidden)
        return _with_queries(layer, once, context, hidden)

    return decoded


def _with_queries(layer: Any, queries: Tensor, context: tuple[Any, ...], hidden: Tensor) -> Tensor:
    """Output of a layer whose queries come from other states (B, n, h) than its keys and values (B, n, h)."""
    mask, distances, relative = context
    if not hasattr(layer.attention.self, "in_proj"):
        return layer(hidden, mask, query_states=queries, relative_pos=distances, rel_embeddings=relative)[0]
    # transformers' own support for separate queries fails on batches in version 1. A copy, since others may be reading.
    attention = copy.copy(layer.attention.self)
    projection, size = attention.in_proj, attention.attention_head_size

    def with_replaced_queries(hidden: Tensor) -> Tensor:
        projected = projection(hidden)  # queries, keys and values side by side for each head
        column = torch.arange(projected.shape[-1], device=projected.device) % (3 * size)
        return torch.where(column < size, projection(queries), projected)

    vars(attention)["in_proj"] = with_replaced_queries
    output = attention(hidden, mask, relative_pos=distances, rel_embeddings=relative)[0]
    attended = layer.attention.output(output, queries)
    return layer.output(layer.intermediate(attended), attended)
