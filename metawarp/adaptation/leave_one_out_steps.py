"""Steps on a leave-one-out loss. They move the adapter; class embeddings are computed when it has arrived.

References:
    You, Gitman, Ginsburg (2017), "Large Batch Training of Convolutional Networks", sec. 4.2: the length of a step is
    set for each part of the parameters, whatever the length of its gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from metawarp.adaptation.inner_steps import InnerSteps
from metawarp.adaptation.leave_one_out import LOSSES, SupportSets
from metawarp.adaptation.memory import FIRST_ORDER_VECTORS
from metawarp.adaptation.start import (
    ExampleFeatures,
    own_adapters,
    read_texts,
    shared_parameters,
    with_class_embeddings,
)
from metawarp.adapters.adapter import split
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters, power_law
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, index_in_task
from metawarp.warp import Warp

CLASSES_PER_STEP = 16
"""Largest number of classes whose texts a step reads; the classes of a task with more of them take turns."""

TEXTS_PER_STEP = 256
"""Largest number of texts that a step reads of a task, so that the time of a step is bounded."""

DAMPING = 0.1
"""The norm of the gradient of each part is bounded below by this fraction of the root mean square over all parts, so
that a part without a gradient does not move, and the second derivative is bounded."""

MAX_GRAPH_BYTES = 3 * 10**8
"""Largest size in bytes of the graph of a first-order step; more texts are read in parts."""


@final
@dataclass(frozen=True)
class LeaveOneOutSteps(InnerSteps):
    """The adapter moves; class embeddings are computed at the end, under the adapter that was reached."""

    def begin(self) -> tuple[TaskParameters, ExampleFeatures | None]:
        parameters = shared_parameters(self.init)
        return own_adapters(parameters, len(self.tasks)) if self.inner.moving else parameters, None

    def step(
        self,
        current: TaskParameters,
        texts: LabelledTexts,
        number: int,
        *,
        features: Tensor | None = None,
        second_order: bool = False,
    ) -> tuple[TaskParameters, Tensor]:
        warp, init, inner = self.warp, self.init, self.inner
        part = read_by_step(self.tasks.with_support(texts), number)
        if part.support.batch is None:
            return current, current.adapter.new_zeros(len(self.tasks))
        if second_order:
            losses = leave_one_out_losses(warp, init, current, part, inner)
            (gradient,) = torch.autograd.grad(losses.sum(), current.adapter, create_graph=True)
        else:
            losses, gradient = _in_parts(warp, init, current, part, inner)
        moved = current.adapter - _factors(warp, gradient, self._rates(number)) * gradient
        return replace(current, adapter=moved), losses.detach()

    def _rates(self, number: int) -> Tensor:
        """Learning rates (T, P) of the parts of the adapter of each task at a step."""
        init = self.init
        shots, ways = (number.to(init.adapter) for number in self.tasks.size)
        of_size = power_law(shots, ways, 0.0, init.adapter_lr_by_shots, init.adapter_lr_by_ways)
        return of_size[:, None] * init.inner_lr("adapter", number)

    def finish(
        self, current: TaskParameters, after_read: Callable[[], object] = lambda: None
    ) -> tuple[TaskParameters, ExampleFeatures | None]:
        return with_class_embeddings(self.warp, self.init, current, self.tasks, after_read)


def leave_one_out_losses(
    warp: Warp, init: InitParameters, current: TaskParameters, tasks: TaskBatch, inner: InnerLoop
) -> Tensor:
    """Leave-one-out loss (T,) of each task under its adapter."""
    support = read_texts(warp, current, tasks.support)
    names = warp.read_names(current, tasks.names) if len(tasks.names) else None
    return _losses_of_features(init, tasks, names, support, inner)


def _losses_of_features(
    init: InitParameters, tasks: TaskBatch, names: Tensor | None, support: Tensor, inner: InnerLoop
) -> Tensor:
    assert init.log_loss_scale is not None
    sets = SupportSets.of(tasks, names, support)
    return sets.loss(LOSSES[inner.loss].logits(sets, init.log_loss_scale.exp().expand(len(tasks))))


def _in_parts(
    warp: Warp, init: InitParameters, current: TaskParameters, tasks: TaskBatch, inner: InnerLoop
) -> tuple[Tensor, Tensor]:
    """The losses (T,), and the gradient (T, …) of their sum with respect to the adapters.

    Texts whose graph would be larger than `MAX_GRAPH_BYTES` are read once for the loss, and again in parts, each with a
    graph of its own, for the gradient.
    """
    room = int(MAX_GRAPH_BYTES / (FIRST_ORDER_VECTORS * warp.bytes_per_token))
    sources = [(tasks.support, read_texts), (tasks.names, lambda *texts: warp.read_names(*texts[1:]))]
    sources = [(texts, read) for texts, read in sources if texts.batch is not None]
    fits = sum(int(texts.batch.lengths.sum()) for texts, _ in sources if texts.batch is not None) <= room
    with torch.set_grad_enabled(fits):
        outputs = [read(warp, current, texts) for texts, read in sources]
    features = [output.detach().requires_grad_() for output in outputs]
    names = features[1] if len(features) > 1 else None
    losses = _losses_of_features(init, tasks, names, features[0], inner)
    gradients = torch.autograd.grad(losses.sum(), features)
    if fits:
        return losses, torch.autograd.grad(outputs, current.adapter, gradients)[0]
    total = torch.zeros_like(current.adapter)
    for (texts, read), gradient in zip(sources, gradients, strict=True):
        assert texts.batch is not None
        for rows in texts.batch.passes(room):
            output = read(warp, current, texts.select(rows.to(texts.task.device)))
            total += torch.autograd.grad(output, current.adapter, gradient[rows])[0]
    return losses, total


def _factors(warp: Warp, gradient: Tensor, rates: Tensor) -> Tensor:
    """What the gradient (T, …) is multiplied with, so that a step changes the values of each part by its rate (T, P)
    in the root mean square."""
    parts = split(warp.adapter, gradient)
    squares = torch.stack([part.flatten(1).square().mean(1) for part in parts.values()], dim=1)
    least = (DAMPING**2 * squares.mean(1, keepdim=True)).clamp(min=torch.finfo(squares.dtype).tiny)
    factors = rates / (squares + least).sqrt()
    if len(parts) == 1:
        return factors.view(-1, *[1] * (gradient.dim() - 1))
    sizes = torch.tensor([part[0].numel() for part in parts.values()], device=gradient.device)
    return factors.repeat_interleave(sizes, dim=1)


def read_by_step(tasks: TaskBatch, number: int) -> TaskBatch:
    """The tasks with the classes whose turn it is at a step, and at most `TEXTS_PER_STEP` random texts of these."""
    if int(tasks.n_way.max()) > CLASSES_PER_STEP:
        chosen = []
        for n_way in tasks.n_way.tolist():
            turns = -(-n_way // CLASSES_PER_STEP)
            order = torch.randperm(n_way, generator=torch.Generator().manual_seed(number // turns))
            chosen.append(order.tensor_split(turns)[number % turns].sort().values)  # as in a task that is read whole
        tasks = tasks.of_classes(chosen)
    return _few_texts(tasks, number)


def _few_texts(tasks: TaskBatch, number: int) -> TaskBatch:
    """The tasks with at most the same number of texts of every class, and at most `TEXTS_PER_STEP` in all."""
    limits = TEXTS_PER_STEP // tasks.n_way
    if bool((tasks.shots <= limits[:, None]).all()):
        return tasks
    chosen = []
    for task, limit in enumerate(limits.tolist()):  # alone, a task has the same texts
        (rows,) = torch.where(tasks.support.task == task)
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(number)).to(rows.device)]
        chosen.append(rows[index_in_task(tasks.support.label[rows]) < limit].sort().values)
    return tasks.with_support(tasks.support.select(torch.cat(chosen)))
