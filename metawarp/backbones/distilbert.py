"""DistilBERT: BERT without token types."""

from functools import partial
from typing import Any, final

from torch import Tensor, nn

from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Family, Head, Layer, bidirectional_mask


@final
class DistilBert(Family):
    """DistilBERT: absolute positions, no token types."""

    name = "DistilBERT"
    query_value = ("q_lin", "v_lin")

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return encoder.embeddings(None, embeddings, None)

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        mask = bidirectional_mask(encoder, hidden, attention_mask)
        return [partial(layer, attention_mask=mask) for layer in encoder.transformer.layer]

    def masked_lm_head(self, model: Any) -> Head:
        return nn.Sequential(model.vocab_transform, model.activation, model.vocab_layer_norm)

    @staticmethod
    def content_attention(encoder: Any, layer: int) -> ContentAttention:
        module = encoder.transformer.layer[layer]
        attention, rest = module.attention, partial(_rest_of_layer, module)
        return ContentAttention(attention.q_lin, attention.k_lin, attention.v_lin, attention.n_heads, rest)


def _rest_of_layer(module: Any, attended: Tensor, residual: Tensor) -> Tensor:
    normed = module.sa_layer_norm(module.attention.out_lin(attended) + residual)
    return module.output_layer_norm(module.ffn(normed) + normed)
