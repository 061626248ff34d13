"""Adapters that are weights inside the layers: forward passes in which each task has weights of its own."""

import copy
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from metawarp.adapters.adapter import AdapterContext, Parts, insert_soft_tokens
from metawarp.backbones.family import Observer, Reading
from metawarp.texts.encoded_batch import EncodedBatch


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
    context: AdapterContext, encoder: nn.Module, parts: Parts, batch: EncodedBatch, task: Tensor, reading: Reading
) -> Tensor:
    """Hidden states as `Adapter.hidden_states` returns them, one task after the other.

    The parts are soft tokens "prompt", if there are some, and weights of `encoder`, a copy of the backbone's model.
    """
    head_at, observe = reading.get("head_at"), reading.get("observe")
    some_part = next(iter(parts.values()))
    n_tasks, entering = len(some_part), context.entering(batch, some_part.dtype)
    if "prompt" in parts:
        entering = insert_soft_tokens(parts["prompt"], entering, batch, task)
    weights = {name: part.to(context.backbone.dtype) for name, part in parts.items() if name != "prompt"}

    def run(index: int, rows: Tensor | slice, observe: Observer | None) -> Tensor:
        model = with_weights(encoder, {name: weight[index] for name, weight in weights.items()})
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


def with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a module that shares its parts but has some other weights. `torch.func.functional_call` puts them into
    the module itself during a call, which other threads would see."""
    copies: dict[int, nn.Module] = {}

    def copied(part: nn.Module, prefix: str) -> nn.Module:
        if id(part) not in copies:
            copies[id(part)] = new = copy.copy(part)
            own = {name: weights.get(prefix + name, weight) for name, weight in part._parameters.items()}
            children = {name: child and copied(child, f"{prefix}{name}.") for name, child in part._modules.items()}
            new.__dict__.update(_parameters=own, _modules=children)
        return copies[id(part)]

    return copied(module, "")
