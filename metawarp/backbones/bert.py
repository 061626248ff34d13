"""BERT, and what is built like it: RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import (
    Family,
    Head,
    Layer,
    all_positions,
    bidirectional_mask,
    embed,
    masked,
    positions_from,
)


def layers(encoder: Any, hidden: Tensor, attention_mask: Tensor) -> list[Layer]:
    """Layers that take hidden states and a mask."""
    mask = bidirectional_mask(encoder, hidden, attention_mask)
    return [partial(masked, layer, mask) for layer in encoder.encoder.layer]


def n_layers(encoder: Any) -> int:
    """Length of the stack."""
    return len(encoder.encoder.layer)


def content_attention(encoder: Any, number: int) -> ContentAttention:
    """The attention of a layer, taken apart."""
    layer = encoder.encoder.layer[number]
    attention = layer.attention.self
    finish = partial(_finish, layer)
    return ContentAttention(attention.query, attention.key, attention.value, attention.num_attention_heads, finish)


def _finish(layer: Any, mixed: Tensor, here: Tensor) -> Tensor:
    return layer.feed_forward_chunk(layer.attention.output(mixed, here))


def _head(model: Any) -> Head:
    return model.cls.predictions.transform


QUERY_VALUE = ("query", "value")

BERT = Family(
    name="BERT",
    encoder="bert",
    embed=embed,
    layers=layers,
    n_layers=n_layers,
    max_positions=all_positions,
    head=_head,
    query_value=QUERY_VALUE,
    content_attention=content_attention,
)


def first_position(encoder: Any) -> int:
    """RoBERTa and MPNet count positions from behind the padding id (`create_position_ids_from_input_ids`)."""
    return int(encoder.embeddings.padding_idx) + 1


def embed_behind_padding(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """As `embed`, with the positions of a family that counts them from behind the padding id."""
    # Passed, since the model would otherwise count positions from the ids that it is not given.
    return encoder.embeddings(
        inputs_embeds=embeddings, position_ids=positions_from(first_position(encoder), embeddings)
    )


def positions_behind_padding(encoder: Any) -> int:
    """Those of a family that counts them from behind the padding id."""
    return all_positions(encoder) - first_position(encoder)


def lm_head(model: Any) -> Head:
    """Dense layer, GELU, norm."""
    return partial(_lm_features, model.lm_head)


def _lm_features(head: Any, hidden: Tensor) -> Tensor:
    return head.layer_norm(nn.functional.gelu(head.dense(hidden)))


ROBERTA = replace(
    BERT,
    name="RoBERTa",
    encoder="roberta",
    embed=embed_behind_padding,
    max_positions=positions_behind_padding,
    head=lm_head,
)


def _embed_projected(encoder: Any, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    embedded = embed(encoder, embeddings, attention_mask)
    return encoder.embeddings_project(embedded) if hasattr(encoder, "embeddings_project") else embedded


def _generator_head(model: Any) -> Head:
    return model.generator_predictions


def _detector(model: Any) -> Head:
    return model.discriminator_predictions


ELECTRA = replace(
    BERT,
    name="ELECTRA",
    encoder="electra",
    embed=_embed_projected,
    head=_generator_head,
    detector=_detector,
    headed=("ForMaskedLM",),
    detecting=("ForPreTraining",),
)
