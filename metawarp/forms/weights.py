"""Weights of the backbone itself, beside soft tokens: MetaPrompting's main setting.

References:
    Hou, Dong, Wang, Li, Che (2022), "MetaPrompting: Learning to Learn Better Prompts", COLING, sec. 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metawarp.forms.form import Form, Parts, placed
from metawarp.texts.encoded import EncodedBatch

_NOT_IN_A_LAYER = ("embeddings.", "embeddings_project.", "pooler.")


class Weights(Form):
    """All weights of the layers, a copy of its own for each task; those of the embeddings stay frozen."""

    @cached_property
    def encoder(self) -> nn.Module:
        """The model whose weights they are."""
        return self.backbone.model

    @cached_property
    def own(self) -> dict[str, Tensor]:
        """The weights that a task has for itself, as they are in the model, by name."""
        return {name: weight.detach() for name, weight in self.encoder.named_parameters() if self.owns(name)}

    def owns(self, name: str) -> bool:
        """Whether a weight of the model is of a layer that the form's first is not above."""
        number = re.search(r"\blayers?\.([0-9]+)\.", name)
        return not name.startswith(_NOT_IN_A_LAYER) and (number is None or int(number[1]) >= self.layer)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Soft tokens (K, d), and the weights."""
        soft = {"prompt": (self.n_soft, self.width)} if self.n_soft else {}
        return soft | {name: tuple(weight.shape) for name, weight in self.own.items()}

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """The weights as they are."""
        prompt = {"prompt": self.left_by(soft, self.layer)} if self.n_soft else {}
        return prompt | {name: weight.to(soft) for name, weight in self.own.items()}

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, at: Tensor | None = None) -> Tensor:
        """Texts of one task after those of another, each through its own weights."""
        dtype = next(iter(parts.values())).dtype
        entering = self.entering(batch, dtype)
        if "prompt" in parts:
            entering = placed(parts["prompt"], entering, batch, task)
        weights = {f"encoder.{name}": tensor for name, tensor in parts.items() if name != "prompt"}
        holder, backbone = _Holder(self.encoder), replace(self.backbone, model=self.encoder)

        def through(one: int, entering: Tensor, mask: Tensor, at: Tensor | None) -> Tensor:
            own = {name: tensor[one].to(self.backbone.dtype) for name, tensor in weights.items()}
            return functional_call(holder, own, (lambda: backbone.hidden_states(entering, mask, self.layer, at=at),))

        n_tasks = len(next(iter(parts.values())))
        if n_tasks == 1:
            return through(0, entering, batch.attention_mask, at)
        rows = [torch.where(task == one)[0] for one in range(n_tasks)]
        found = [
            through(one, entering[own], batch.attention_mask[own], None if at is None else at[own])
            for one, own in enumerate(rows)
            if len(own)
        ]
        return torch.cat(found)[torch.argsort(torch.cat(rows))]


class _Holder(nn.Module):
    """What `functional_call` puts weights into while something runs that uses the encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, run: Callable[[], Tensor]) -> Tensor:
        return run()
