"""DeBERTa, versions 1 to 3: attention by content and distance.

Version 3 is a discriminator (He, Gao, Chen, 2021): the head in its checkpoints does not predict words, so it is read as
a plain encoder.
"""

from functools import partial
from typing import Any, final

from torch import Tensor, nn

from metawarp.backbones.enhanced_mask_decoder import PublishedDeberta
from metawarp.backbones.family import Family, Head, Layer, first_output


@final
class Deberta(Family):
    """DeBERTa: relative distances in every layer; padding has no part in the embeddings."""

    name = "DeBERTa"
    query_value = ("query_proj", "value_proj", "in_proj")
    projects_distances = True
    unannounced_head = PublishedDeberta()

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return encoder.embeddings(inputs_embeds=embeddings, mask=attention_mask)

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        stack, mask = encoder.encoder, attention_mask.long()
        distances = {"relative_pos": stack.get_rel_pos(hidden), "rel_embeddings": stack.get_rel_embedding()}
        shared = {"attention_mask": stack.get_attention_mask(mask), **distances}
        layers: list[Layer] = [partial(first_output, layer, **shared) for layer in stack.layer]
        if getattr(stack, "conv", None) is not None:  # version 2, xlarge and larger: beside the first layer
            first = layers[0]
            layers[0] = lambda hidden: stack.conv(hidden, first(hidden), mask)
        return layers

    def masked_lm_head(self, model: Any) -> Head:
        if hasattr(model, "cls"):  # "legacy" in its config
            return model.cls.predictions.transform
        head = model.lm_predictions.lm_head
        return nn.Sequential(head.dense, head.transform_act_fn, head.LayerNorm)
