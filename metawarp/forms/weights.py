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
        weights = {name: tensor for name, tensor in parts.items() if name != "prompt"}
        backbone = replace(self.backbone, model=self.encoder)
        found, order = [], []
        for one in task.unique().tolist():
            (rows,) = torch.where(task == one)
            with_own = {f"encoder.{name}": tensor[one].to(self.backbone.dtype) for name, tensor in weights.items()}
            here = None if at is None else at[rows]

            def run(rows: Tensor = rows, here: Tensor | None = here) -> Tensor:
                return backbone.hidden_states(entering[rows], batch.attention_mask[rows], self.layer, at=here)

            found.append(functional_call(_Holder(self.encoder), with_own, (run,)))
            order.append(rows)
        return torch.cat(found)[torch.argsort(torch.cat(order))]


class _Holder(nn.Module):
    """What `functional_call` puts weights into while something runs that uses the encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, run: Callable[[], Tensor]) -> Tensor:
        return run()
