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

from metawarp.forms.form import Parts
from metawarp.forms.weights import Weights


class LowRank(Weights):
    """A (r, in) and B (out, r) for each query and value projection; the frozen weights are shared between tasks."""

    counts = "ranks"

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
            torch.manual_seed(0)  # `start` draws anew
            found = peft.inject_adapter_in_model(config, copy.deepcopy(model, shared))
        return found.to(self.backbone.device, self.backbone.dtype).eval().requires_grad_(False)

    def owns(self, name: str) -> bool:
        """Whether it is one of PEFT's, in a layer that the form's first is not above."""
        return ".lora_" in name and super().owns(name)

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """A uniform as PEFT draws it (Kaiming), B zero: nothing is changed at first."""
        parts = super().start(soft, generator)
        for name, weight in parts.items():
            if ".lora_A." in name:
                bound = weight.shape[1] ** -0.5
                parts[name] = (torch.rand(weight.shape, generator=generator) * 2 - 1).to(soft) * bound
            elif ".lora_B." in name:
                parts[name] = torch.zeros_like(weight)
        return parts


def require_peft() -> Any:
    """The package, or an ImportError that says how it is had."""
    try:
        import peft
    except ImportError as error:
        raise ImportError('low-rank forms and adapters are PEFT\'s: pip install "metawarp[peft]"') from error
    return peft
