"""Weights of the backbone itself: MetaPrompting's main setting, as far as its layers go.

References:
    Hou, Dong, Wang, Li, Che (2022), "MetaPrompting: Learning to Learn Better Prompts", COLING, sec. 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metawarp.forms.own_weights import OwnWeights

_EMBEDDING = ("embeddings.", "embeddings_project.", "encoder.embedding_hidden_mapping_in.", "pooler.")
"""What names of weights begin with that make what enters the first layer, or that nothing is read behind."""


class Weights(OwnWeights):
    """All weights of the layers, a copy for each task; those of embeddings and of the masked-LM head stay frozen."""

    @property
    def encoder(self) -> nn.Module:
        """The backbone's own model."""
        return self.backbone.model

    def owns(self, name: str) -> bool:
        """Whether it is of a layer."""
        return not name.startswith(_EMBEDDING) and self.above(name)

    def fresh(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """As it is in the backbone."""
        return weight
