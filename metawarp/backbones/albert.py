"""ALBERT: layers share their weights, and word embeddings (and so prompts) are narrower than hidden states."""

from functools import partial
from typing import Any, final

from torch import Tensor, nn

from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Family, Head, Layer, bidirectional_mask


@final
class Albert(Family):
    """ALBERT: groups of layers that share their weights."""

    name = "ALBERT"

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return encoder.encoder.embedding_hidden_mapping_in(encoder.embeddings(inputs_embeds=embeddings))

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        mask, n_layers = bidirectional_mask(encoder, hidden, attention_mask), encoder.config.num_hidden_layers
        return [partial(_group(encoder, layer), attention_mask=mask) for layer in range(n_layers)]

    def masked_lm_head(self, model: Any) -> Head:
        head = model.predictions
        return nn.Sequential(head.dense, head.activation, head.LayerNorm)

    @staticmethod
    def content_attention(encoder: Any, layer: int) -> ContentAttention | None:
        modules = _group(encoder, layer).albert_layers
        if len(modules) > 1:  # no published model has several layers per group
            return None
        attention, rest = modules[0].attention, partial(_rest_of_layer, modules[0])
        return ContentAttention(attention.query, attention.key, attention.value, attention.num_attention_heads, rest)


def _group(encoder: Any, layer: int) -> Any:
    groups = encoder.encoder.albert_layer_groups
    return groups[layer * len(groups) // encoder.config.num_hidden_layers]


def _rest_of_layer(module: Any, attended: Tensor, residual: Tensor) -> Tensor:
    normed = module.attention.LayerNorm(residual + module.attention.dense(attended))
    return module.full_layer_layer_norm(module.ff_chunk(normed) + normed)
