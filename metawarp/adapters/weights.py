"""All weights of the layers: MetaPrompting's main setting, with embeddings and masked-LM head frozen.

References:
    Hou, Dong, Wang, Li, Che (2022), "MetaPrompting: Learning to Learn Better Prompts", COLING, sec. 3.
"""

from dataclasses import dataclass
from typing import Unpack, final

import torch
from torch import Tensor

from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.adapters.own_weights import at_or_above, hidden_states_with_weights, soft_token_shape, soft_token_start
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch

_NOT_IN_LAYERS = ("embeddings.", "embeddings_project.", "encoder.embedding_hidden_mapping_in.", "pooler.")
"""Prefixes of the names of weights before the first layer or after the last hidden states."""


@final
@dataclass(frozen=True, eq=False)
class Weights(Adapter):
    """Soft tokens "prompt" (K, w), if the template has some, and a copy of each weight of the layers for each task."""

    context: AdapterContext

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return soft_token_shape(self.context) | {name: tuple(w.shape) for name, w in self._weights.items()}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """The weights as they are in the backbone."""
        weights = {name: weight.to(soft_tokens) for name, weight in self._weights.items()}
        return soft_token_start(self.context, soft_tokens) | weights

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        return hidden_states_with_weights(self.context, parts, batch, task, reading)

    @property
    def _weights(self) -> dict[str, Tensor]:
        weights = dict(self.context.backbone.model.named_parameters())
        names = [name for name in weights if not name.startswith(_NOT_IN_LAYERS)]
        return {name: weights[name].detach() for name in names if at_or_above(name, self.context.layer)}
