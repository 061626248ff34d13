"""Held-out logits of a task's own texts: each half of the support set is classified by what was adapted on the other.

Steps on a leave-one-out loss fit the adapter to all support texts, so their own loss says too little about new texts.

References:
    Stone (1974), "Cross-Validatory Choice and Assessment of Statistical Predictions",
    Journal of the Royal Statistical Society B 36, sec. 1.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metawarp.adaptation.start import ExampleFeatures, class_embeddings_of, logits_of, read_texts, shared_parameters
from metawarp.adaptation.trajectory import Trajectory
from metawarp.parameters import InitParameters, TaskParameters, mapped
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, index_in_task
from metawarp.warp import Warp


@dataclass(frozen=True)
class Halves:
    """Each of T tasks twice, as tasks t and T + t: with one half of its B texts in all, and with the other half.

    A half has every second text of each class; it begins with the first text of every second class, so that one text
    per class is enough.

    Attributes:
        tasks: 2·T tasks. The support texts are those of a half, the queries (B,) those of the other half.
        texts: all texts of each of the 2·T tasks.
        held_out: (2·B,), true where a text is a query.
    """

    tasks: TaskBatch
    texts: LabelledTexts
    held_out: Tensor

    @classmethod
    def of(cls, tasks: TaskBatch) -> Self:
        """The halves of T tasks."""
        twice, texts = tasks.repeated(2), tasks.support
        number = index_in_task(texts.task * tasks.shots.shape[1] + texts.label)
        held_out = torch.cat([(number + texts.label + half) % 2 == 0 for half in (1, 0)])
        support, query = (twice.support.select(torch.where(chosen)[0]) for chosen in (~held_out, held_out))
        return cls(replace(twice, query=query).with_support(support), twice.support, held_out)


@torch.no_grad()
def held_out_logits(
    warp: Warp, init: InitParameters, path: Trajectory, halves: Halves, extents: Tensor, name_factors: Tensor
) -> Tensor:
    """Logits (J, B, C) of B held-out texts under J alternatives: how far (J,) the features of texts and names go from
    those at the start to those at the end of the steps, and how many times as much (J,) class names count.

    Features that are mixed stand for those of adapters that are mixed, which would be read anew for each extent.
    """
    shared, last = shared_parameters(init), mapped(path.states[-1], Tensor.detach)
    ends = [_features(warp, place, halves) for place in (shared, last)]  # a text is read once under a shared adapter
    texts, names = (
        None if start is None or end is None else torch.lerp(start, end, extents.to(start)[:, None, None])
        for start, end in zip(*ends, strict=True)
    )
    assert texts is not None
    support, query = (texts[:, chosen].flatten(0, 1) for chosen in (~halves.held_out, halves.held_out))
    tasks = halves.tasks.repeated(len(extents))
    init = warp.verbalizer.weighing_names(init, name_factors.repeat_interleave(len(halves.tasks)))
    examples = ExampleFeatures(None if names is None else names.flatten(0, 1), support)
    embeddings = class_embeddings_of(warp, init, tasks, examples)
    parameters = replace(shared, class_embeddings=embeddings)
    return logits_of(warp, parameters, query, tasks.query, tasks).view(len(extents), -1, embeddings.shape[1])


def _features(warp: Warp, parameters: TaskParameters, halves: Halves) -> tuple[Tensor, Tensor | None]:
    """Features of all texts (2·B, d) and of the class names (N, d), if the verbalizer uses them."""
    texts, names = read_texts(warp, parameters, halves.texts), halves.tasks.names
    uses_names = warp.verbalizer.uses_names and len(names) > 0
    return texts, warp.read_names(parameters, names) if uses_names else None
