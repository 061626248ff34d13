"""Forms in which a task has weights of its own inside the layers, beside soft tokens where the template has some."""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from metawarp.forms.form import Form, Parts, placed
from metawarp.texts.encoded import EncodedBatch


class OwnWeights(Form):
    """Weights of a module, those that `owns` names, one set for each task."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The module, read as the backbone's model is."""

    @abstractmethod
    def owns(self, name: str) -> bool:
        """Whether a task has a weight of this name for itself."""

    @abstractmethod
    def fresh(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """What a weight starts as, given what it is in the module."""

    @cached_property
    def own(self) -> dict[str, Tensor]:
        """The weights that `owns` names, as they are in the module."""
        return {name: weight.detach() for name, weight in self.encoder.named_parameters() if self.owns(name)}

    def above(self, name: str) -> bool:
        """Whether a weight is of the form's first layer or a later one, or of none in particular."""
        number = re.search(r"\blayers?\.([0-9]+)\.", name)
        return number is None or int(number[1]) >= self.layer

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Soft tokens (K, d), where the template has some, and the weights."""
        soft = {"prompt": (self.n_soft, self.width)} if self.n_soft else {}
        return soft | {name: tuple(weight.shape) for name, weight in self.own.items()}

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """Soft tokens where those below leave them, and `fresh` weights."""
        prompt = {"prompt": self.left_by(soft, self.layer)} if self.n_soft else {}
        return prompt | {name: self.fresh(name, weight, generator).to(soft) for name, weight in self.own.items()}

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """Texts of one task after those of another, each through its own weights."""
        entering = self.entering(batch, next(iter(parts.values())).dtype)
        if "prompt" in parts:
            entering = placed(parts["prompt"], entering, batch, task)
        weights = {name: tensor.to(self.backbone.dtype) for name, tensor in parts.items() if name != "prompt"}

        def through(one: int, entering: Tensor, mask: Tensor, head_at: Tensor | None) -> Tensor:
            own = with_weights(self.encoder, {name: tensor[one] for name, tensor in weights.items()})
            return replace(self.backbone, model=own).hidden_states(entering, mask, self.layer, head_at=head_at)

        n_tasks = len(next(iter(parts.values())))
        if n_tasks == 1:
            return through(0, entering, batch.attention_mask, head_at)
        rows = [torch.where(task == one)[0] for one in range(n_tasks)]
        hidden = [
            through(one, entering[own], batch.attention_mask[own], None if head_at is None else head_at[own])
            for one, own in enumerate(rows)
            if len(own)
        ]
        return torch.cat(hidden)[torch.argsort(torch.cat(rows))]


def with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A module of the same parts with some other weights; the given one, which others may be reading, stays as it is.

    Unlike `torch.func.functional_call`, which puts the weights into the module itself for as long as a call takes.

    Args:
        module: any, no hooks between its parts.
        weights: tensors by the names of the parameters that they stand in for.
    """
    twins: dict[int, nn.Module] = {}

    def twin(part: nn.Module, prefix: str) -> nn.Module:
        if id(part) not in twins:
            twins[id(part)] = made = copy.copy(part)
            own = {name: weights.get(prefix + name, weight) for name, weight in part._parameters.items()}
            children = {
                name: None if child is None else twin(child, f"{prefix}{name}.")
                for name, child in part._modules.items()
            }
            made.__dict__.update(_parameters=own, _modules=children)
        return twins[id(part)]

    return twin(module, "")
