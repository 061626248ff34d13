"""The one conversion from the parameters of an init to those of tasks, and the losses of tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metawarp.config import Group
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, mean_per_task
from metawarp.warp import Warp

TEXTS_AT_ONCE = 1024
"""Largest number of unlabelled texts that are read between two updates of a progress bar."""


@dataclass(frozen=True)
class ExampleFeatures:
    """Features of the examples of T tasks.

    Attributes:
        names: (N, d) features of the class names; None if the verbalizer does not use them or there are none.
        support: (B, d) features of the support texts; None if they are not used or there are none.
        unlabelled: (U, d) features of the unlabelled texts; None if they are not used or there are none.
    """

    names: Tensor | None
    support: Tensor | None
    unlabelled: Tensor | None = None


def start(
    warp: Warp, init: InitParameters, tasks: TaskBatch, updates: Sequence[Group] = ()
) -> tuple[TaskParameters, ExampleFeatures]:
    """The parameters of T tasks before any inner step, and the features of their examples.

    Gradients flow back to the init. The parameters in `updates` can be differentiated even if the init is not learned.
    """
    parameters = shared_parameters(init)
    if "adapter" in updates:
        parameters = own_adapters(parameters, len(tasks))
    parameters, examples = with_class_embeddings(warp, init, parameters, tasks)
    if "class_embeddings" in updates:
        parameters = replace(parameters, class_embeddings=_differentiable(parameters.class_embeddings))
    return parameters, examples


def with_class_embeddings(
    warp: Warp,
    init: InitParameters,
    parameters: TaskParameters,
    tasks: TaskBatch,
    after_read: Callable[[], object] = lambda: None,
) -> tuple[TaskParameters, ExampleFeatures]:
    """The parameters of T tasks with the class embeddings that their verbalizer computes under their adapters, and the
    features of their examples; for `after_read`, see `read_examples`."""
    examples = read_examples(warp, parameters, tasks, after_read)
    embeddings = class_embeddings_of(warp, init, tasks, examples)
    return replace(parameters, class_embeddings=embeddings), examples


def read_examples(
    warp: Warp, parameters: TaskParameters, tasks: TaskBatch, after_read: Callable[[], object] = lambda: None
) -> ExampleFeatures:
    """Features of the examples of T tasks that the verbalizer uses.

    Unlabelled texts are read in the parts of `pool_parts`; `after_read` is called after each.
    """
    verbalizer = warp.verbalizer
    support = read_texts(warp, parameters, tasks.support) if verbalizer.uses_support and len(tasks.support) else None
    names = warp.read_names(parameters, tasks.names) if verbalizer.uses_names and len(tasks.names) else None
    parts = []
    for rows in pool_parts(warp, tasks):
        parts.append(read_texts(warp, parameters, tasks.unlabelled.select(rows)))
        after_read()
    return ExampleFeatures(names, support, torch.cat(parts) if parts else None)


def pool_parts(warp: Warp, tasks: TaskBatch) -> tuple[Tensor, ...]:
    """Indices of the unlabelled texts of T tasks, in parts of up to `TEXTS_AT_ONCE`; no part if they are not used."""
    texts = tasks.unlabelled
    uses_unlabelled = warp.verbalizer.uses_unlabelled and len(texts) > 0
    return torch.arange(len(texts), device=texts.task.device).split(TEXTS_AT_ONCE) if uses_unlabelled else ()


def class_embeddings_of(warp: Warp, init: InitParameters, tasks: TaskBatch, examples: ExampleFeatures) -> Tensor:
    """Class embeddings (T, C, …) of T tasks from the features of their examples."""
    features = examples.names, examples.support, examples.unlabelled
    embeddings = warp.verbalizer.class_embeddings(init, tasks, *features)
    # Embeddings of classes that a task lacks have no effect, but the second derivative of a norm at zero is NaN.
    return embeddings.where(tasks.class_mask[..., None], torch.ones_like(embeddings))


def shared_parameters(init: InitParameters) -> TaskParameters:
    """The parameters that all tasks start with; class embeddings (1, 0, 0) are still missing."""
    return TaskParameters(
        adapter=init.adapter[None],
        class_embeddings=init.adapter.new_zeros(1, 0, 0),
        scale=init.log_scale.exp()[None],
        read_out_weights=None if init.read_out_logits is None else init.read_out_logits.softmax(0),
    )


def read_texts(warp: Warp, parameters: TaskParameters, texts: LabelledTexts) -> Tensor:
    """Features (B, d) of B texts under the parameters of their tasks."""
    assert texts.batch is not None
    return warp.read(parameters, texts.batch, texts.task)


def logits_of(
    warp: Warp, parameters: TaskParameters, features: Tensor, texts: LabelledTexts, tasks: TaskBatch
) -> Tensor:
    """Logits (B, C) of B texts under the class embeddings of their tasks; -inf at classes that a task lacks."""
    scale = parameters.scale.expand(len(tasks))[texts.task, None]
    logits = warp.verbalizer.logits(features, parameters.class_embeddings[texts.task], scale)
    return logits.masked_fill(~tasks.class_mask[texts.task], float("-inf"))


def logits_by_task(
    warp: Warp, parameters: TaskParameters, features: Tensor, texts: LabelledTexts, tasks: TaskBatch
) -> Tensor:
    """The same logits (B, C), computed for one task after the other: together, each text would need a copy of the class
    embeddings of its task."""
    logits = features.new_full((len(features), tasks.shots.shape[1]), float("-inf"))
    scale = parameters.scale.expand(len(tasks))
    for task, n_way in enumerate(tasks.n_way.tolist()):
        (rows,) = torch.where(texts.task == task)
        embeddings = parameters.class_embeddings[task, :n_way]
        logits[rows, :n_way] = warp.verbalizer.logits(features[rows], embeddings, scale[task]).to(logits)
    return logits


def losses_of(
    warp: Warp, parameters: TaskParameters, features: Tensor, texts: LabelledTexts, tasks: TaskBatch
) -> Tensor:
    """Mean cross-entropy (T,) of each task; 0 for a task without texts."""
    losses = cross_entropy(logits_of(warp, parameters, features, texts, tasks), texts.label, reduction="none")
    return mean_per_task(losses, texts.task, len(tasks))


def own_adapters(parameters: TaskParameters, n_tasks: int) -> TaskParameters:
    """The parameters with an adapter for each task, which can be differentiated even if the init is not learned."""
    adapter = parameters.adapter.expand(n_tasks, *parameters.adapter.shape[1:]).clone()
    return replace(parameters, adapter=_differentiable(adapter))


def _differentiable(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.detach().requires_grad_()
