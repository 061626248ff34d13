"""learn2learn as a second engine: MAML and Meta-SGD in the usual way, one task at a time through a module.

It serves as the oracle of our own engine, and is imported here only. learn2learn (Arnold et al., 2020, "A Library for
Meta-Learning Research") is unmaintained, and its `__init__` imports gym, torchvision and others that
`learn2learn.algorithms` does not need; so the parent package is registered without running it.
"""

import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from episodes.errors import InputError, listing
from metawarp.adaptation.start import read_texts, start
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import Group, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, MetaGradient, Method, accuracy, gradients_of, zero_gradients
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import LEARNING_RATES, InitParameters, TaskParameters, tensors_of
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp

INSTALL = (
    "pip install setuptools wheel Cython && pip install --no-build-isolation --no-deps "
    '--config-settings="--global-option=build_ext" learn2learn==0.2.0'
)
"""Its source distribution contains C code of an old Cython, which has to be generated again."""


@final
class Learn2LearnEngine:
    """Meta-gradients of the methods that pass through the inner loop."""

    processes_tasks_together: ClassVar[bool] = False

    def require(self, method: MethodName, inner: InnerLoop) -> None:
        if not METHODS[method].order:
            supported = listing(name for name, other in METHODS.items() if other.order)
            raise InputError(f"engine='learn2learn' does not support method={method!r}; it supports {supported}.")
        if inner.leaves_one_out:
            raise InputError(f"engine='learn2learn' does not support inner_loss={inner.loss!r}; use engine='metawarp'.")
        algorithms()

    def meta_gradient(self, method: Method, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        return meta_gradient(init, batch, second_order=method.order == 2)


def algorithms() -> Any:
    """The module `learn2learn.algorithms`; an ImportError with the command that installs it if it is missing."""
    try:
        if "learn2learn" not in sys.modules and (spec := find_spec("learn2learn")):
            sys.modules["learn2learn"] = module_from_spec(spec)
        return import_module("learn2learn.algorithms")
    except ImportError as error:
        raise ImportError(f'The engine "learn2learn" needs a library that is not installed: {INSTALL}') from error


class Learner(nn.Module):
    """What learn2learn adapts: a module whose parameters are those of one task that the inner loop updates."""

    def __init__(self, warp: Warp, parameters: TaskParameters, updates: tuple[Group, ...]) -> None:
        super().__init__()
        self.warp, self.task_parameters = warp, parameters
        for group in updates:
            # Not an nn.Parameter, which would cut class embeddings off from the adapter that they were computed with.
            self._parameters[group] = getattr(parameters, group)  # pyright: ignore[reportArgumentType]

    def forward(self, texts: LabelledTexts) -> Tensor:
        """Mean cross-entropy of one task's texts."""
        return cross_entropy(self.logits(texts), texts.label)

    def logits(self, texts: LabelledTexts) -> Tensor:
        """Logits (B, C) of one task's texts."""
        updated = {name: value for name, value in self._parameters.items() if value is not None}
        current = replace(self.task_parameters, **updated)
        features = read_texts(self.warp, current, texts)
        return self.warp.verbalizer.logits(features, current.class_embeddings[0], current.scale)


def meta_gradient(init: InitParameters, batch: MetaBatch, *, second_order: bool = True) -> MetaGradient:
    """The meta-gradient of `second_order.unroll`, computed by learn2learn.

    `MAML` is used if all inner learning rates are fixed and equal, `MetaSGD` if they are learned or differ.
    """
    warp, tasks, inner = batch.warp, batch.tasks, batch.inner
    gradients, losses, batch_accuracy = zero_gradients(init), [], 0.0
    with twice_differentiable(second_order and warp.reads_again(inner)):
        for task in map(tasks.task, range(len(tasks))):
            learner = _learner(warp, init, task, inner, second_order)
            loss = torch.zeros(())
            for number, weight in enumerate(batch.loss_weights):
                if number and len(task.support):
                    if not isinstance(learner, algorithms().MAML):
                        learner.lrs = _rates(init, inner, number - 1)
                    learner.adapt(learner(task.support))
                if weight:
                    loss = loss + weight * learner(task.query)
            of_task = tensors_of(gradients_of(loss / len(tasks), init))
            gradients = InitParameters(**{name: g + of_task[name] for name, g in tensors_of(gradients).items()})
            losses.append(loss.detach())
            with torch.no_grad():
                task_accuracy = accuracy(learner.module.logits(task.query), task.query.label)
            batch_accuracy += task_accuracy * len(task.query) / len(tasks.query)
    return MetaGradient(gradients, torch.stack(losses), batch_accuracy)


def _learner(warp: Warp, init: InitParameters, task: TaskBatch, inner: InnerLoop, second_order: bool) -> Any:
    """A clone of one task's start, ready to `adapt`."""
    module = Learner(warp, start(warp, init, task, inner.moving)[0], inner.moving)
    rates = [tensor for name, tensor in tensors_of(init).items() if name in LEARNING_RATES.values()]
    values = {float(rate) for tensor in rates for rate in tensor.detach().exp()}
    if len(values) <= 1 and not any(tensor.requires_grad for tensor in rates):
        learner = algorithms().MAML(module, lr=max(values, default=0.0), first_order=not second_order)
    else:
        learner = algorithms().MetaSGD(module, lrs=_rates(init, inner, 0), first_order=not second_order)
    return learner.clone()


def _rates(init: InitParameters, inner: InnerLoop, number: int) -> list[Tensor]:
    return [init.inner_lr(group, number) for group in inner.moving]
