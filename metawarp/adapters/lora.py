"""Low-rank updates of the query and value projections, through PEFT's own layers.

References:
    Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models", ICLR, eq. 3: W·x + B·A·x, with B = 0 at
    first.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack, final

import torch
from torch import Tensor, nn

from episodes import InputError
from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.adapters.own_weights import at_or_above, hidden_states_with_weights, soft_token_shape, soft_token_start
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class Lora(Adapter):
    """Soft tokens "prompt" (K, w), if the template has some, and A (r, in) and B (out, r) for each projection.

    The frozen weights are shared between tasks. Where a family computes queries, keys and values in one projection
    (ModernBERT, DeBERTa 1), all three are updated.
    """

    size_meaning = "rank"
    context: AdapterContext

    def __post_init__(self) -> None:
        backbone, rank = self.context.backbone, self.context.size
        assert rank is not None
        if rank >= backbone.hidden_size:
            problem = f"the weights of backbone {backbone.name!r} are {backbone.hidden_size} wide"
            raise InputError(f"adapter_size={rank} is not a low rank: {problem}; lower it, or use adapter='weights'.")

    @cached_property
    def _encoder(self) -> nn.Module:
        """The backbone's model with PEFT's layers around the same weights."""
        peft = require_peft()
        backbone, rank = self.context.backbone, self.context.size
        shared: dict[int, Any] = {id(t): t for t in (*backbone.model.parameters(), *backbone.model.buffers())}
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(backbone.family.query_value))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # PEFT's random values are replaced in `start`
            encoder = peft.inject_adapter_in_model(config, copy.deepcopy(backbone.model, shared))
        return encoder.to(backbone.device, backbone.dtype).eval().requires_grad_(False)

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        low_rank = ((name, weight) for name, weight in self._encoder.named_parameters() if ".lora_" in name)
        return {name: weight.detach() for name, weight in low_rank if at_or_above(name, self.context.layer)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return soft_token_shape(self.context) | {name: tuple(w.shape) for name, w in self._weights.items()}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """A uniform as in PEFT (Kaiming), B zero: nothing is changed at first."""

        weights = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}
        for name, weight in weights.items():
            if ".lora_A." in name:
                weights[name] = (torch.rand(weight.shape, generator=generator) * 2 - 1) * weight.shape[1] ** -0.5
        start = {name: weight.to(soft_tokens) for name, weight in weights.items()}
        return soft_token_start(self.context, soft_tokens) | start

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        return hidden_states_with_weights(self.context, self._encoder, parts, batch, task, reading)


def require_peft() -> Any:
    """The module `peft`; an ImportError with the command that installs it if it is missing."""
    try:
        import peft
    except ImportError as error:
        raise ImportError('Low-rank adapters and PEFT files need an extra: pip install "metawarp[peft]"') from error
    return peft
