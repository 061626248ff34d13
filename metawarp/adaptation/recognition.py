"""Recognition of unknown texts: the probability that a text belongs to any of the classes of its task.

A text of an unknown class has a smaller largest logit than others, and a text of another kind is far from all class
means. Both are compared with what the task's own examples have, because they differ between tasks, and are combined by
a logistic regression whose coefficients are learned on episodes in which some queries belong to no class.

References:
    Hendrycks, Gimpel (2017), "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
    Networks", ICLR, sec. 2 (scores of a classifier).
    Lee, Lee, Lee, Shin (2018), "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
    Attacks", NeurIPS, sec. 2.1 and 2.2 (distances to class means; scores combined by a logistic regression).
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.adaptation.leave_one_out import SupportSets, class_means
from metawarp.adaptation.start import ExampleFeatures, logits_by_task
from metawarp.adaptation.task_size import BySize
from metawarp.parameters import TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, mean_per_task
from metawarp.warp import Warp

SMALLEST_LENGTH = 1e-6
"""Lengths of features are bounded below by this number."""


@dataclass(frozen=True)
class Recognition(BySize):
    """Coefficients of the log-odds that a text is known, in a task of N classes with K texts each.

    The log-odds are base + by_logit·(l - l₀) + by_cosine·(c - c₀) + by_shots·log(1 + K) + by_ways·log N. Here l is the
    largest logit of the text, c its largest cosine to a class mean, and l₀ and c₀ are the means of both over the
    examples of the task; an example has no part in the class mean that it is compared with. See `BySize` for the
    other coefficients.

    Args:
        by_logit: coefficient of the largest logit.
        by_cosine: coefficient of the largest cosine.
    """

    by_logit: float = field(kw_only=True)
    by_cosine: float = field(kw_only=True)

    LARGEST = 1000.0

    def of(
        self,
        warp: Warp,
        parameters: TaskParameters,
        tasks: TaskBatch,
        examples: ExampleFeatures,
        n_classes: int | None = None,
    ) -> TaskParameters:
        """The parameters of T tasks with what they recognize unknown texts by; the same parameters if the verbalizer
        compares texts with nothing but the words of the names.

        Args:
            warp: the model.
            parameters: parameters of the tasks.
            tasks: the tasks.
            examples: features of their examples.
            n_classes: number of classes of each task; one that has more has examples of unknown texts as its last one.
                None: all classes.
        """
        if not warp.verbalizer.uses_support:
            return parameters
        whole = parameters
        if n_classes is not None and n_classes < tasks.shots.shape[1]:
            is_known, support = tasks.support.label < n_classes, examples.support
            examples = replace(examples, support=None if support is None else support[is_known])
            tasks = tasks.of_classes([torch.arange(n_classes, device=tasks.n_way.device)] * len(tasks))
            parameters = replace(whole, class_embeddings=whole.class_embeddings[:, :n_classes])
        means, usual = class_means_and_usual_scores(warp, parameters, tasks, examples)
        offset = self.at(*tasks.size)
        weights = offset.new_tensor([self.by_logit, self.by_cosine])
        offset = offset - (usual.to(offset) * weights).sum(1)
        recognition = torch.cat([weights.expand(len(tasks), 2), offset[:, None]], dim=1)
        return replace(whole, class_means=means, recognition=recognition.to(whole.scale))


def class_means_and_usual_scores(
    warp: Warp, parameters: TaskParameters, tasks: TaskBatch, examples: ExampleFeatures
) -> tuple[Tensor, Tensor]:
    """The direction (T, C, d) of the mean of each class of T tasks, zero for classes that a task lacks, and the means
    (T, 2) of the two scores over the examples of each task."""
    sets, texts, features = _examples(tasks, examples)
    logits = logits_by_task(warp, parameters, features, texts, tasks).amax(-1)
    cosines = class_means(sets, torch.ones_like(sets.texts[:, 0, 0]))
    cosines = cosines.masked_fill(~tasks.class_mask[:, None], -1.0).amax(-1)[texts.task, texts.index_in_task]
    usual = torch.stack([mean_per_task(values, texts.task, len(tasks)) for values in (logits, cosines)], dim=1)
    return normalize(sets.targets.mT @ sets.texts + sets.names, dim=-1), usual


def _examples(tasks: TaskBatch, examples: ExampleFeatures) -> tuple[SupportSets, LabelledTexts, Tensor]:
    """The examples of T tasks: their support texts beside their names or, without any, their names alone."""
    if examples.support is not None:
        return SupportSets.of(tasks, examples.names, examples.support), tasks.support, examples.support
    assert examples.names is not None
    named = tasks.with_support(tasks.names)
    return SupportSets.of(named, None, examples.names), tasks.names, examples.names


def scores(class_means: Tensor, features: Tensor, logits: Tensor) -> Tensor:
    """The largest logit and the largest cosine, (B, 2), of texts with features (B, d) and logits (B, C), in one task
    with class means (C, d)."""
    lengths = features.norm(dim=-1, keepdim=True).clamp(min=SMALLEST_LENGTH)
    return torch.stack([logits.amax(-1), (features @ class_means.T / lengths).amax(-1)], dim=-1)


def log_odds(parameters: TaskParameters, features: Tensor, logits: Tensor) -> Tensor:
    """The log-odds (B,) that texts with features (B, d) and logits (B, C) belong to any class of one task."""
    assert parameters.class_means is not None and parameters.recognition is not None
    weights, constant = parameters.recognition[0, :2], parameters.recognition[0, 2]
    return (scores(parameters.class_means[0], features, logits) * weights).sum(-1) + constant
