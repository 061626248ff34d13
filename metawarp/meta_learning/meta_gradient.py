"""What a method is: from T tasks to a meta-gradient of the init."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from metawarp.adaptation.start import logits_of, losses_of, read_texts
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters, mapped, tensors_of
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

SecondOrder = Literal["unroll", "recompute"]
"""How exact second-order gradients are computed; see `second_order`."""


@dataclass(frozen=True)
class MetaBatch:
    """T tasks, how they are adapted, and how the losses after each step are weighted; the outer loss is their mean.

    `loss_weights` are S + 1 weights of the query losses after 0 … S inner steps. `second_order` sets how second-order
    gradients are computed; both ways give the same result.
    """

    warp: Warp
    tasks: TaskBatch
    inner: InnerLoop
    loss_weights: Sequence[float]
    second_order: SecondOrder = "recompute"


@dataclass(frozen=True)
class MetaGradient:
    """The gradients of the init's tensors by T tasks (zero where the method has none), the weighted sum of each task's
    query losses (T,), and the accuracy of the adapted tasks over all queries."""

    gradients: InitParameters
    losses: Tensor
    accuracy: float


class Method(Protocol):
    """A method of meta-learning."""

    inner: InnerLoop
    """The inner loop that it trains and that tasks are adapted with."""
    order: Literal[0, 1, 2] = 0
    """2 if the meta-gradient passes through the inner loop, 1 if the inner gradients count as constants, 0 if the
    meta-gradient does not pass through it."""
    min_inner_steps: int = 1
    """Smallest number of inner steps that the method can be used with."""
    needs_adapter_lr: bool = False
    """Whether it learns nothing if the outer learning rate of the adapter is 0."""
    learns_corpus_classes: bool = False
    """Whether it learns `InitParameters.corpus_class_embeddings`."""

    def meta_gradient(self, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        """The meta-gradient of the init. Tensors of the init that do not require gradients get zeros."""
        ...


def query_losses(warp: Warp, parameters: TaskParameters, tasks: TaskBatch) -> tuple[Tensor, float]:
    """Query loss (T,) of each task under its parameters, and the accuracy over all queries."""
    features = read_texts(warp, parameters, tasks.query)
    losses = losses_of(warp, parameters, features, tasks.query, tasks)
    return losses, accuracy(logits_of(warp, parameters, features, tasks.query, tasks), tasks.query.label)


def last_step(inner_steps: int) -> list[float]:
    """Weights of the query losses after 0 … S steps: the last alone counts."""
    return [0.0] * inner_steps + [1.0]


def gradients_of(loss: Tensor, init: InitParameters) -> InitParameters:
    """Gradient of a loss with respect to each tensor of an init; zero for those that have no part in it."""
    return InitParameters(**vector_jacobian([loss], [torch.ones_like(loss)], tensors_of(init)))


def zero_gradients(init: InitParameters) -> InitParameters:
    """Zeros of the shapes of an init."""
    return mapped(init, torch.zeros_like)


def vector_jacobian(
    outputs: Sequence[Tensor], vectors: Sequence[Tensor], variables: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Gradient with respect to each variable, from gradients (vectors) with respect to outputs."""
    learned = {name: tensor for name, tensor in variables.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(outputs, list(learned.values()), vectors, allow_unused=True)
    named = {name: gradient for name, gradient in zip(learned, gradients, strict=True) if gradient is not None}
    return {name: named.get(name, torch.zeros_like(tensor)) for name, tensor in variables.items()}


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of texts whose highest logit is at their label."""
    return float((logits.argmax(-1) == labels).float().mean())
