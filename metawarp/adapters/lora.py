"""Low-rank updates of the query and value projections.

References:
    Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models", ICLR, eq. 3: W·x + B·A·x, with B = 0 at
    first.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Unpack, final

import torch
from torch import Tensor, nn

from episodes import InputError
from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.adapters.own_weights import (
    at_or_above,
    hidden_states_with_modules,
    hidden_states_with_weights,
    soft_token_shape,
    soft_token_start,
)
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class Lora(Adapter):
    """Soft tokens "prompt" (K, w), if the template has some, and A (r, in) and B (out, r) for each projection.

    Where a family computes queries, keys and values in one projection (ModernBERT, DeBERTa 1), all three are updated.
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
    def _projections(self) -> dict[str, nn.Linear]:
        """The frozen projections that are updated, by name."""
        backbone, endings = self.context.backbone, self.context.backbone.family.query_value
        named = backbone.model.named_modules()
        updated = {name: module for name, module in named if name.endswith(tuple(f".{ending}" for ending in endings))}
        return {
            name: module
            for name, module in updated.items()
            if isinstance(module, nn.Linear) and at_or_above(f"{name}.", self.context.layer)
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes, rank = soft_token_shape(self.context), self.context.size
        assert rank is not None
        for name, projection in self._projections.items():
            shapes |= {f"{name}.A": (rank, projection.in_features), f"{name}.B": (projection.out_features, rank)}
        return shapes

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """A uniform as in PEFT (Kaiming), B zero: nothing is changed at first."""
        start = soft_token_start(self.context, soft_tokens)
        for name, shape in self.shapes.items():
            if name.endswith(".A"):
                start[name] = ((torch.rand(shape, generator=generator) * 2 - 1) * shape[1] ** -0.5).to(soft_tokens)
            elif name.endswith(".B"):
                start[name] = soft_tokens.new_zeros(shape)
        return start

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        """See `Adapter.hidden_states`. The updates of one task that is not being learned are added to the weights, so
        that they cost nothing; those of several tasks stay apart, so that one pass reads the texts of all of them."""
        backbone, some = self.context.backbone, next(iter(parts.values()))
        is_learned, is_rounded = some.requires_grad, torch.finfo(backbone.dtype).bits < 32
        if backbone.family.projects_distances or not (is_learned or is_rounded or len(some) > 1):
            return hidden_states_with_weights(self.context, self._merged(parts), batch, task, reading)
        own = (lambda part: part[0]) if len(some) == 1 else (lambda part: part[task])
        updated = {
            name: _Updated(projection, *(own(parts[f"{name}.{kind}"]).to(backbone.dtype) for kind in "AB"))
            for name, projection in self._projections.items()
        }
        return hidden_states_with_modules(self.context, updated, parts, batch, task, reading)

    def _merged(self, parts: Parts) -> Parts:
        """The updated weights (T, out, in) of each projection, and the soft tokens."""
        soft_tokens = {name: parts[name] for name in soft_token_shape(self.context)}
        return soft_tokens | {
            f"{name}.weight": projection.weight + parts[f"{name}.B"] @ parts[f"{name}.A"]
            for name, projection in self._projections.items()
        }


class _Updated(nn.Module):
    """A projection with its update, A (r, in) and B (out, r), or one for each text, (B, …)."""

    def __init__(self, projection: nn.Linear, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.projection, self.a, self.b = projection, a, b

    def forward(self, states: Tensor) -> Tensor:
        return self.projection(states) + states @ self.a.mT @ self.b.mT
