"""learn2learn as a second engine: MAML and Meta-SGD the textbook way, one task at a time through a module.

For people who come from there, and as the oracle of our own engine. learn2learn is unmaintained (last release June
2023) and its `__init__` pulls gym, torchvision and others that `learn2learn.algorithms` does not need; so the parent
package is registered without running it. This is the one place that imports it.

References:
    Arnold et al. (2020), "learn2learn: A Library for Meta-Learning Research".
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from metawarp.adaptation.adapt import start
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop, inner_lr, inner_rates, reads_again
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.backbones.backbone import twice_differentiable
from metawarp.meta_learning.outer_loss import MetaGradient, StepWeights, accuracy, all_weights, gradients_of
from metawarp.model.warp import State, Warp

INSTALL = (
    "pip install setuptools wheel Cython && pip install --no-build-isolation --no-deps "
    '--config-settings="--global-option=build_ext" learn2learn==0.2.0'
)
"""Its sdist carries C of an old Cython, which has to be made again."""


def algorithms() -> Any:
    """The module `learn2learn.algorithms`.

    Raises:
        ImportError: it is not installed; the message has the command that installs it.
    """
    try:
        if "learn2learn" not in sys.modules and (spec := find_spec("learn2learn")):
            sys.modules["learn2learn"] = module_from_spec(spec)
        return import_module("learn2learn.algorithms")
    except ImportError as error:
        raise ImportError(f'engine "learn2learn" needs a library that is not installed: {INSTALL}') from error


class Learner(nn.Module):
    """What learn2learn adapts: a module whose parameters are the groups that the inner loop moves.

    Args:
        warp: the model.
        current: the start of one task, with a leading dimension of 1.
        groups: which of "prompt" (K, d) and "rows" (C, d) are parameters; the other stays as it is.
    """

    def __init__(self, warp: Warp, current: State, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.warp, self.scale, self.weights = warp, current["scale"], current.get("read_out")
        for name in GROUPS:
            # Not an nn.Parameter, which would cut the rows off from the prompt that they were read under.
            (self._parameters if name in groups else self.__dict__)[name] = current[name][0]  # pyright: ignore

    def forward(self, texts: LabelledTexts) -> Tensor:
        """Mean cross-entropy of one task's texts."""
        return cross_entropy(self.logits(texts), texts.label)

    def logits(self, texts: LabelledTexts) -> Tensor:
        """Logits (B, C) of one task's texts."""
        assert texts.batch is not None
        prompt, rows = (getattr(self, name) for name in GROUPS)
        features = self.warp.features(prompt[None], self.weights, texts.batch, texts.task, rows[None])
        return self.warp.logits(features, rows, self.scale)


def meta_gradient(
    warp: Warp,
    state: State,
    tasks: TaskBatch,
    inner: InnerLoop,
    step_weights: StepWeights = None,
    *,
    second_order: bool = True,
) -> MetaGradient:
    """What `metawarp.meta_learning.second_order.unroll` finds, found by learn2learn.

    `MAML` where the inner learning rates are fixed and all the same, `MetaSGD` where they are learned or differ.

    Args:
        warp: the model.
        state: the init's tensors; each gets a gradient.
        tasks: T tasks; their mean loss counts.
        inner: the inner loop.
        step_weights: of the query losses after each step.
        second_order: whether the inner gradients are differentiated; otherwise FOMAML.
    """
    gradients = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    losses, right = [], 0.0
    with twice_differentiable(second_order and reads_again(warp, inner)):
        for task in map(tasks.task, range(len(tasks))):
            learner = _wrapped(warp, state, task, inner, second_order)
            loss = torch.zeros(())
            for number, weight in enumerate(all_weights(inner.steps, step_weights)):
                if number and len(task.support):
                    if not isinstance(learner, algorithms().MAML):
                        learner.lrs = _rates(state, inner, number - 1)
                    learner.adapt(learner(task.support))
                if weight:
                    loss = loss + weight * learner(task.query)
            for name, gradient in gradients_of(loss / len(tasks), state).items():
                gradients[name] += gradient
            losses.append(loss.detach())
            with torch.no_grad():
                hits = accuracy(learner.module.logits(task.query), task.query.label)
            right += hits * len(task.query) / len(tasks.query)
    return MetaGradient(gradients, torch.stack(losses), right)


def _wrapped(warp: Warp, state: State, task: TaskBatch, inner: InnerLoop, second_order: bool) -> Any:
    """A clone of one task's start, ready to `adapt`."""
    module = Learner(warp, start(warp, state, task, inner.moving)[0], inner.groups)
    rates = inner_rates(state).values()
    values = {float(rate) for tensor in rates for rate in tensor.detach().exp()}
    if len(values) <= 1 and not any(tensor.requires_grad for tensor in rates):
        learner = algorithms().MAML(module, lr=max(values, default=0.0), first_order=not second_order)
    else:
        learner = algorithms().MetaSGD(module, lrs=_rates(state, inner, 0), first_order=not second_order)
    return learner.clone()


def _rates(state: State, inner: InnerLoop, number: int) -> list[Tensor]:
    return [inner_lr(state, group, number) for group in GROUPS if group in inner.groups]
