"""BERT and the models built like it: RoBERTa (with XLM-RoBERTa and CamemBERT) and ELECTRA."""

from functools import partial
from typing import Any, ClassVar, final

from torch import Tensor, nn

from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Family, Head, Layer, bidirectional_mask, first_position, positions_from


class BertLike(Family):
    """Families with BERT's layers; their embeddings and heads differ."""

    def layers(self, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
        mask = bidirectional_mask(encoder, hidden, attention_mask)
        return [partial(layer, attention_mask=mask) for layer in encoder.encoder.layer]

    @staticmethod
    def content_attention(encoder: Any, layer: int) -> ContentAttention:
        module = encoder.encoder.layer[layer]
        attention = module.attention.self
        rest = partial(_rest_of_layer, module)
        return ContentAttention(attention.query, attention.key, attention.value, attention.num_attention_heads, rest)


class RobertaLike:
    """The part of a family that has RoBERTa's embeddings, with positions from behind the padding id, and its head."""

    counts_behind_padding: ClassVar = True

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        # Passed explicitly, because the model would otherwise count positions from ids that it is not given.
        positions = positions_from(first_position(encoder), embeddings)
        return encoder.embeddings(inputs_embeds=embeddings, position_ids=positions)

    def masked_lm_head(self, model: Any) -> Head:
        return nn.Sequential(model.lm_head.dense, nn.GELU(), model.lm_head.layer_norm)


@final
class Bert(BertLike):
    """BERT: absolute positions and token types."""

    name = "BERT"

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return encoder.embeddings(inputs_embeds=embeddings)

    def masked_lm_head(self, model: Any) -> Head:
        return model.cls.predictions.transform


@final
class Roberta(RobertaLike, BertLike):
    """RoBERTa, XLM-RoBERTa, CamemBERT."""

    name = "RoBERTa"


@final
class Electra(BertLike):
    """ELECTRA: a generator with a masked-LM head, or a discriminator of replaced tokens."""

    name = "ELECTRA"
    masked_lm_classes = ("ForMaskedLM",)
    discriminator_classes = ("ForPreTraining",)
    discriminator_head = "discriminator_predictions"

    def embed(self, encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        embedded = encoder.embeddings(inputs_embeds=embeddings)
        return encoder.embeddings_project(embedded) if hasattr(encoder, "embeddings_project") else embedded

    def masked_lm_head(self, model: Any) -> Head:
        return model.generator_predictions


def _rest_of_layer(module: Any, attended: Tensor, residual: Tensor) -> Tensor:
    return module.feed_forward_chunk(module.attention.output(attended, residual))
