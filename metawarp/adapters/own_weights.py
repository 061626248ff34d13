"""Adapters that are weights inside the layers: forward passes in which each task has weights of its own."""

import copy
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor, nn

from metawarp.adapters.adapter import Adapter, AdapterContext, Parts, insert_soft_tokens
from metawarp.backbones.family import Observer, Reading
from metawarp.texts.encoded_batch import EncodedBatch

NOT_IN_LAYERS = ("embeddings.", "embeddings_project.", "encoder.embedding_hidden_mapping_in.", "pooler.")
"""Prefixes of the names of weights before the first layer or after the last hidden states."""


class OwnWeights(Adapter):
    """Soft tokens "prompt" (K, w), if the template has some, and a copy of some weights of the layers for each task."""

    context: AdapterContext

    def owns(self, weight: Tensor) -> bool:
        """Whether a task owns a copy of a weight of the layers."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return soft_token_shape(self.context) | {name: tuple(w.shape) for name, w in self._weights.items()}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """The weights as they are in the backbone."""
        weights = {name: weight.to(soft_tokens) for name, weight in self._weights.items()}
        return soft_token_start(self.context, soft_tokens) | weights

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        return hidden_states_with_weights(self.context, parts, batch, task, reading)

    @property
    def _weights(self) -> dict[str, Tensor]:
        weights = dict(self.context.backbone.model.named_parameters())
        owned = [name for name in weights if not name.startswith(NOT_IN_LAYERS) and self.owns(weights[name])]
        return {name: weights[name].detach() for name in owned if at_or_above(name, self.context.layer)}


def at_or_above(name: str, layer: int) -> bool:
    """Whether a weight belongs to a layer from `layer` on, or to no layer in particular."""
    number = re.search(r"\blayers?\.([0-9]+)\.", name)
    return number is None or int(number[1]) >= layer


def soft_token_shape(context: AdapterContext) -> dict[str, tuple[int, ...]]:
    """Shape of the part "prompt", if the template has soft tokens."""
    return {"prompt": (context.n_soft_tokens, context.width)} if context.n_soft_tokens else {}


def soft_token_start(context: AdapterContext, soft_tokens: Tensor) -> Parts:
    """Start of the part "prompt", if the template has soft tokens."""
    return {"prompt": context.soft_tokens_at(context.layer, soft_tokens)} if context.n_soft_tokens else {}


def hidden_states_with_weights(
    context: AdapterContext, parts: Parts, batch: EncodedBatch, task: Tensor, reading: Reading
) -> Tensor:
    """Hidden states as `Adapter.hidden_states` returns them, one task after the other.

    The parts are soft tokens "prompt", if there are some, and weights of the backbone's model by name.
    """
    head_at, observe = reading.get("head_at"), reading.get("observe")
    entering = entering_states(context, parts, batch, task)
    weights = {name: part.to(context.backbone.dtype) for name, part in parts.items() if name != "prompt"}
    n_tasks = len(next(iter(parts.values())))

    def run(index: int, rows: Tensor | slice, observe: Observer | None) -> Tensor:
        model = altered(context.backbone.model, weights={name: weight[index] for name, weight in weights.items()})
        positions, mask = None if head_at is None else head_at[rows], batch.attention_mask[rows]
        backbone = replace(context.backbone, model=model)
        return backbone.hidden_states(entering[rows], mask, context.layer, head_at=positions, observe=observe)

    if n_tasks == 1:
        return run(0, slice(None), observe)
    rows = [torch.where(task == index)[0] for index in range(n_tasks)]
    order, outputs = torch.argsort(torch.cat(rows)), defaultdict[int, list[Tensor]](list)
    collect = None if observe is None else lambda layer, hidden: outputs[layer].append(hidden)
    hidden = [run(index, own, collect) for index, own in enumerate(rows) if len(own)]
    if observe is not None:
        for layer, of_tasks in outputs.items():
            observe(layer, torch.cat(of_tasks)[order])
    return torch.cat(hidden)[order]


def hidden_states_with_modules(
    context: AdapterContext,
    modules: Mapping[str, nn.Module],
    parts: Parts,
    batch: EncodedBatch,
    task: Tensor,
    reading: Reading,
) -> Tensor:
    """Hidden states as `Adapter.hidden_states` returns them, with other modules in place of some of the backbone's.

    The part "prompt", if there is one, holds soft tokens.
    """
    backbone = replace(context.backbone, model=altered(context.backbone.model, modules=modules))
    entering = entering_states(context, parts, batch, task)
    return backbone.hidden_states(entering, batch.attention_mask, context.layer, **reading)


def entering_states(context: AdapterContext, parts: Parts, batch: EncodedBatch, task: Tensor) -> Tensor:
    """Input states (B, n, w) of the adapter's first layer, with the soft tokens of the part "prompt", if any."""
    entering = context.entering(batch, next(iter(parts.values())).dtype)
    return insert_soft_tokens(parts["prompt"], entering, batch, task) if "prompt" in parts else entering


def altered(
    module: nn.Module, *, weights: Mapping[str, Tensor] | None = None, modules: Mapping[str, nn.Module] | None = None
) -> nn.Module:
    """A copy of a module that shares its parts, but has some other weights and modules, by name.
    `torch.func.functional_call` puts weights into the module itself during a call, which other threads would see."""
    weights, modules, copies = weights or {}, modules or {}, dict[int, nn.Module]()

    def copied(part: nn.Module, name: str) -> nn.Module:
        if name in modules:
            return modules[name]
        if id(part) not in copies:
            copies[id(part)] = new = copy.copy(part)
            prefix = f"{name}." if name else ""
            own = {key: weights.get(prefix + key, weight) for key, weight in part._parameters.items()}
            children = {key: child and copied(child, prefix + key) for key, child in part._modules.items()}
            new.__dict__.update(_parameters=own, _modules=children)
        return copies[id(part)]

    return copied(module, "")
