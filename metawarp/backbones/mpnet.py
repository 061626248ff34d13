"""MPNet: RoBERTa's positions, and a bias for the distance of two tokens that all layers share."""

from functools import partial
from typing import Any, final

from torch import Tensor

from metawarp.backbones.bert import RobertaLike
from metawarp.backbones.family import Family, Layer, bidirectional_mask, first_output


@final
class MPNet(RobertaLike, Family):
    """MPNet: embeddings and head as in RoBERTa, and relative distances."""

    name = "MPNet"
    query_value = ("attn.q", "attn.v")

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        shared = {"attention_mask": bidirectional_mask(encoder, hidden, attention_mask)}
        shared["position_bias"] = encoder.encoder.compute_position_bias(hidden)
        return [partial(first_output, layer, **shared) for layer in encoder.encoder.layer]
