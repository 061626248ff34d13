"""What differs from one model type to the next: where the masked-LM head is, and how positions are counted.

A type that is not listed is an error, never a guess: a head read at the wrong place still gives numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metawarp.backbones.layers import BERT, DISTILBERT, Layers


@dataclass(frozen=True)
class Architecture:
    """How one `model_type` of transformers is read.

    Attributes:
        encoder: attribute of the masked-LM model that holds the encoder without its head.
        head: takes the masked-LM model, returns the function from hidden states (…, h) to features (…, d):
            everything of the head before its decoder. d is the width of the word embeddings.
        position_offset: takes the encoder; position of the first token, where positions have to be passed
            because the model would otherwise count them from `input_ids`. None: the model counts by itself.
        layers: how the encoder is run layer by layer.
    """

    encoder: str
    head: Callable[[nn.Module], Callable[[Tensor], Tensor]]
    layers: Layers
    position_offset: Callable[[nn.Module], int] | None = None


def _bert_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return model.cls.predictions.transform  # pyright: ignore


def _roberta_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return partial(_roberta_features, model.lm_head)


def _roberta_features(head: Any, hidden: Tensor) -> Tensor:
    return head.layer_norm(nn.functional.gelu(head.dense(hidden)))


def _distilbert_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return partial(_distilbert_features, model)


def _distilbert_features(model: Any, hidden: Tensor) -> Tensor:
    return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))


def _after_padding(encoder: nn.Module) -> int:
    # RoBERTa counts positions from padding_idx + 1 (transformers, `create_position_ids_from_input_ids`).
    return int(encoder.embeddings.padding_idx) + 1  # pyright: ignore


_ROBERTA = Architecture("roberta", _roberta_head, BERT, _after_padding)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture("bert", _bert_head, BERT),
    "camembert": _ROBERTA,
    "distilbert": Architecture("distilbert", _distilbert_head, DISTILBERT),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def position_ids(architecture: Architecture, encoder: nn.Module, embeddings: Tensor) -> Tensor | None:
    """Positions (1, n) for embeddings (B, n, d) padded on the right, or None where the model counts by itself."""
    if architecture.position_offset is None:
        return None
    first = architecture.position_offset(encoder)
    return torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[None]
