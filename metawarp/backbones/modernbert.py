"""ModernBERT: rotated positions, layers with global or sliding-window attention, a norm after the last layer."""

from functools import partial
from typing import Any, final

from torch import Tensor

from metawarp.backbones.family import Family, Head, Layer, bidirectional_mask, positions_from


@final
class ModernBert(Family):
    """ModernBERT: queries, keys and values come from one projection."""

    name = "ModernBERT"
    query_value = ("Wqkv",)

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return encoder.embeddings(inputs_embeds=embeddings)

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        from transformers.masking_utils import create_bidirectional_sliding_window_mask

        inputs = {"config": encoder.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
        masks = {"sliding_attention": create_bidirectional_sliding_window_mask(**inputs)}
        masks["full_attention"] = bidirectional_mask(encoder, hidden, attention_mask)
        positions = positions_from(0, hidden)
        rotations = {kind: encoder.rotary_emb(hidden, positions, kind) for kind in set(encoder.config.layer_types)}
        kinds = [(layer, layer.attention_type) for layer in encoder.layers]
        *layers, last = (
            partial(layer, attention_mask=masks[kind], position_embeddings=rotations[kind]) for layer, kind in kinds
        )
        return [*layers, lambda hidden: encoder.final_norm(last(hidden))]

    def masked_lm_head(self, model: Any) -> Head:
        return model.head
