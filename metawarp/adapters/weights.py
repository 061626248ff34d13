"""All weights of the layers: MetaPrompting's main setting, with embeddings and masked-LM head frozen.

References:
    Hou, Dong, Wang, Li, Che (2022), "MetaPrompting: Learning to Learn Better Prompts", COLING, sec. 3.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from metawarp.adapters.adapter import AdapterContext
from metawarp.adapters.own_weights import OwnWeights


@final
@dataclass(frozen=True, eq=False)
class Weights(OwnWeights):
    """Every weight of the layers."""

    context: AdapterContext

    def owns(self, weight: Tensor) -> bool:
        return True
