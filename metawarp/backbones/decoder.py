"""Decoders of Llama's kind, as embedding models use them: Llama, Mistral, Qwen2, Qwen3, and Gemma 3.

A token sees only the tokens before it, so {mask} stands for the end-of-text token, which has seen the whole text. Gemma
3 may see in both directions instead, as
EmbeddingGemma does ("use_bidirectional_attention" in its config).
"""

from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from metawarp.backbones.family import Family, Head, Layer, positions_from

GEMMA = "gemma3_text"


@final
class Decoder(Family):
    """Rotated positions, layers with full or sliding-window attention, a norm after the last layer."""

    name = "decoder"
    query_value = ("q_proj", "v_proj")
    reads_end_of_text = True
    masked_lm_classes = ()

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return embeddings * self.embedding_factor(encoder)

    def embedding_factor(self, encoder: Any) -> Tensor | float:
        # Gemma multiplies the output of its embedding table; the table itself has the vectors that we look up.
        table = encoder.embed_tokens
        return table.embed_scale.to(table.weight) if hasattr(table, "embed_scale") else 1.0

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        positions = positions_from(0, hidden)
        kinds = _layer_kinds(encoder.config)
        masks = {kind: _mask(kind, encoder.config, hidden, attention_mask, positions) for kind in set(kinds)}
        rotations = _rotations(encoder, hidden, positions, set(kinds))
        *layers, last = (
            partial(layer, attention_mask=masks[kind], position_ids=positions, position_embeddings=rotations[kind])
            for layer, kind in zip(encoder.layers, kinds, strict=True)
        )
        return [*layers, lambda hidden: encoder.norm(last(hidden))]

    def masked_lm_head(self, model: Any) -> Head:
        return nn.Identity()  # decoders have none


def _layer_kinds(config: Any) -> list[str]:
    """Whether each layer has full or sliding-window attention."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kind = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
        kinds = [kind] * config.num_hidden_layers
    return list(kinds)


def _mask(kind: str, config: Any, hidden: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor | None:
    """The mask of one kind of layers in the form that transformers' attention takes."""
    from transformers import masking_utils

    sliding, further = kind == "sliding_attention", {}
    if config.model_type == GEMMA and config.use_bidirectional_attention:
        window = config.sliding_window if sliding else None
        further["or_mask_function"] = partial(_sees, window)
    create = masking_utils.create_sliding_window_causal_mask if sliding else masking_utils.create_causal_mask
    # By position: the fourth argument, a cache, has another name from transformers 5.24 on.
    return create(config, hidden, attention_mask.long(), None, positions, **further)


def _sees(window: int | None, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Whether a token sees another one in either direction, at a distance below `window`."""
    return torch.ones_like(query - key, dtype=torch.bool) if window is None else (query - key).abs() < window


def _rotations(encoder: Any, hidden: Tensor, positions: Tensor, kinds: set[str]) -> dict[str, Any]:
    """The rotations of each kind of layers; Gemma has one for each kind, the others have one for all."""
    if encoder.config.model_type == GEMMA:
        return {kind: encoder.rotary_emb(hidden, positions, kind) for kind in kinds}
    return dict.fromkeys(kinds, encoder.rotary_emb(hidden, positions))
