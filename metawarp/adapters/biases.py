"""The biases of the layers, and the weights of their norms.

References:
    Ben Zaken, Goldberg, Ravfogel (2022), "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
    Language-models", ACL, sec. 3 (biases).
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from metawarp.adapters.adapter import AdapterContext
from metawarp.adapters.own_weights import OwnWeights


@final
@dataclass(frozen=True, eq=False)
class Biases(OwnWeights):
    """Every bias, and the weights of every norm; decoders often have norms alone."""

    context: AdapterContext

    def owns(self, weight: Tensor) -> bool:
        return weight.dim() == 1
