"""Low-rank weights beside those of the attention, through PEFT's own layers; and soft tokens, where there are some.

References:
    Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models", ICLR, eq. 3: W·x + B·A·x, B zero at first.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from episodes import InputError
from metawarp.forms.own_weights import OwnWeights


class LowRank(OwnWeights):
    """A (r, in) and B (out, r) for each query and value projection; the frozen weights are shared between tasks.

    Where a family makes queries, keys and values in one projection (ModernBERT, DeBERTa 1), of all three.
    """

    counts = "ranks"

    def __post_init__(self) -> None:
        """Refuse ranks that save nothing."""
        super().__post_init__()
        assert self.number is not None
        if self.number >= self.backbone.hidden_size:
            raise InputError(
                f"form lora has rank {self.number}; weights of backbone {self.backbone.name!r} are "
                f"{self.backbone.hidden_size} wide: give a lower rank, such as lora:2, or take form weights."
            )

    @cached_property
    def encoder(self) -> nn.Module:
        """The modules of the backbone's model with PEFT's beside them, around the same weights."""
        peft = require_peft()
        model = self.backbone.model
        shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        assert self.number is not None
        config = peft.LoraConfig(
            r=self.number, lora_alpha=self.number, target_modules=list(self.backbone.family.query_value)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # `fresh` draws anew
            encoder = peft.inject_adapter_in_model(config, copy.deepcopy(model, shared))
        return encoder.to(self.backbone.device, self.backbone.dtype).eval().requires_grad_(False)

    def owns(self, name: str) -> bool:
        """Whether it is one of PEFT's."""
        return ".lora_" in name and self.above(name)

    def fresh(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform as PEFT draws it (Kaiming), B zero: nothing is changed at first."""
        if ".lora_A." in name:
            return (torch.rand(weight.shape, generator=generator) * 2 - 1) * weight.shape[1] ** -0.5
        return torch.zeros_like(weight)


def require_peft() -> Any:
    """The package, or an ImportError that says how it is had."""
    try:
        import peft
    except ImportError as error:
        raise ImportError('low-rank forms and adapters are PEFT\'s: pip install "metawarp[peft]"') from error
    return peft
