"""Held-out texts of a task's own: some of its texts are classified by what was fitted to the others.

What was fitted to a text says too little about new texts. This holds for class embeddings, and for an adapter that was
moved by steps on a leave-one-out loss.

References:
    Stone (1974), "Cross-Validatory Choice and Assessment of Statistical Predictions",
    Journal of the Royal Statistical Society B 36, sec. 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metawarp.adaptation.start import (
    ExampleFeatures,
    class_embeddings_of,
    logits_by_task,
    read_texts,
    shared_parameters,
)
from metawarp.adaptation.trajectory import Trajectory
from metawarp.parameters import InitParameters, TaskParameters, mapped
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, index_in_task
from metawarp.warp import Warp

FOLDS = 5
"""Largest number of parts of each class, of which one after the other is held out."""

ENOUGH = 250
"""Number of held-out texts after which no further part is held out: the share of correct ones is known within 3 %."""

ENOUGH_WITH_POOL = 50
"""The same number for tasks with unlabelled texts, whose fits take seconds."""


@dataclass(frozen=True)
class CrossFit:
    """T tasks without some of their texts, which are held out.

    Attributes:
        tasks: T tasks. The support texts are those that are left, the queries (B,) those that are held out.
        texts: all texts of each of the T tasks.
        held_out: one number for each of these texts, true where it is a query.
    """

    tasks: TaskBatch
    texts: LabelledTexts
    held_out: Tensor

    @classmethod
    def of(cls, tasks: TaskBatch, held_out: Tensor) -> Self:
        """T tasks, and which of their texts are held out."""
        left, query = (tasks.support.select(torch.where(chosen)[0]) for chosen in (~held_out, held_out))
        return cls(replace(tasks, query=query).with_support(left), tasks.support, held_out)

    @classmethod
    def halves(cls, tasks: TaskBatch) -> Self:
        """Each of T tasks twice, as tasks t and T + t: without one half of its texts, and without the other half.

        A half has every second text of each class; it begins with the first text of every second class, so that one
        text per class is enough.
        """
        number, label = _number_in_class(tasks), tasks.support.label
        return cls.of(tasks.repeated(2), torch.cat([(number + label + half) % 2 == 0 for half in (1, 0)]))

    def repeated(self, number: int) -> "CrossFit":
        """The T tasks so many times: all of them, then all of them again."""
        texts = self.texts.repeated(number, len(self.tasks))
        return CrossFit(self.tasks.repeated(number), texts, self.held_out.repeat(number))

    def logits(self, warp: Warp, init: InitParameters, examples: ExampleFeatures) -> Tensor:
        """Logits (B, C) of the held-out texts, from the features of all texts and of the other examples of the tasks,
        if class embeddings are fitted to what is left."""
        assert examples.support is not None
        left, query = (examples.support[chosen] for chosen in (~self.held_out, self.held_out))
        examples = replace(examples, support=left if len(left) else None)
        parameters = replace(
            shared_parameters(init), class_embeddings=class_embeddings_of(warp, init, self.tasks, examples)
        )
        return logits_by_task(warp, parameters, query, self.tasks.query, self.tasks)


def folds(tasks: TaskBatch, has_examples: Tensor) -> Iterator[CrossFit]:
    """T tasks without one part of their texts, then without another, until enough texts of each were held out.

    A part has as many texts of every class, so that what is left of a task is balanced as the task is. With K texts per
    class in the mean there are K parts, and at most `FOLDS`. With fewer than two texts per class, all texts are one
    part, and the names alone are left. The only text of a class is not held out beside other parts.

    Args:
        tasks: the tasks.
        has_examples: (T,), true for a task whose classes all have an example that is no text, such as a name.
    """
    texts, (shots, _) = tasks.support, tasks.size
    n_parts = shots.floor().long().clamp(1, FOLDS)[texts.task]
    several = tasks.shots[texts.task, texts.label] > 1
    may = torch.where(n_parts > 1, several, has_examples[texts.task])
    part = _number_in_class(tasks) % n_parts
    counts = shots.new_zeros(len(tasks), FOLDS).index_put((texts.task, part), may.to(shots), accumulate=True)
    enough = ENOUGH_WITH_POOL if len(tasks.unlabelled) else ENOUGH
    wanted = counts.cumsum(1) - counts < enough
    may = may & wanted[texts.task, part]
    for number in part[may].unique().tolist():
        yield CrossFit.of(tasks, may & (part == number))


@torch.no_grad()
def held_out_logits(
    warp: Warp, init: InitParameters, path: Trajectory, halves: CrossFit, extents: Tensor, name_factors: Tensor
) -> Tensor:
    """Logits (J, B, C) of B held-out texts under J alternatives: how far (J,) the features of texts and names go from
    those at the start to those at the end of the steps, and how many times as much (J,) class names count.

    Features that are mixed stand for those of adapters that are mixed, which would be read anew for each extent.
    """
    shared, last = shared_parameters(init), mapped(path.states[-1], Tensor.detach)
    ends = [_features(warp, place, halves) for place in (shared, last)]  # a text is read once under a shared adapter
    texts, names = (
        None if start is None or end is None else torch.lerp(start, end, extents.to(start)[:, None, None]).flatten(0, 1)
        for start, end in zip(*ends, strict=True)
    )
    init = warp.verbalizer.weighing_names(init, name_factors.repeat_interleave(len(halves.tasks)))
    logits = halves.repeated(len(extents)).logits(warp, init, ExampleFeatures(names, texts))
    return logits.view(len(extents), -1, logits.shape[1])


def _features(warp: Warp, parameters: TaskParameters, halves: CrossFit) -> tuple[Tensor, Tensor | None]:
    """Features of all texts and of the class names (N, d), if the verbalizer uses them."""
    texts, names = read_texts(warp, parameters, halves.texts), halves.tasks.names
    uses_names = warp.verbalizer.uses_names and len(names) > 0
    return texts, warp.read_names(parameters, names) if uses_names else None


def _number_in_class(tasks: TaskBatch) -> Tensor:
    """(B,) number of earlier texts of the same class of the same task."""
    return index_in_task(tasks.support.task * tasks.shots.shape[1] + tasks.support.label)
