"""Warnings about unlabelled texts that probably do not belong to the classes of a task."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from episodes.errors import quoted
from metawarp.adaptation.start import ExampleFeatures, class_embeddings_of
from metawarp.inits.init import Init
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

logger = logging.getLogger(__name__)

# The limits are beyond what pools of five corpora have with 0, 1 and 5 texts per class, proportions of 20 : 1 and 30 %
# distractors. There, the rarest class has 0.19 of an equal share, and at most half of the texts are unlike.
ABSENT_SHARE, TEXTS_PER_CLASS = 0.15, 20
"""A class seems absent below this fraction of an equal share, if there are so many unlabelled texts per class."""

UNLIKE_SHARE, LEAST_LABELLED = 0.65, 20
"""Texts seem to be of another kind if more than this share is unlike the labelled ones, of which there are so many."""

_QUANTILE = 0.25
"""Share of the labelled texts that are less like the other labelled ones than a similar text is."""


@dataclass(frozen=True)
class PoolRecord:
    """The unlabelled texts of one task.

    Attributes:
        n_texts: number of unlabelled texts.
        n_labelled: number of labelled texts.
        shares: (C,) share of each class in the texts, as the fit without them predicts it.
        unlike: share of the texts that are less similar to every labelled text than a quarter of the labelled texts are
            to every other one; 0 with fewer than two labelled texts.
    """

    n_texts: int
    n_labelled: int
    shares: Tensor
    unlike: float

    @classmethod
    def of(cls, logits: Tensor, unlabelled: Tensor, support: Tensor | None) -> Self:
        """The record of U texts from their logits (U, C) and features (U, d), and features (B, d) of the labelled
        texts; None if there are none."""
        shares = logits.softmax(1).mean(0)
        if support is None or len(support) < 2:
            return cls(len(unlabelled), 0 if support is None else len(support), shares, 0.0)
        points = normalize(support, dim=1)
        nearest = (points @ points.T).fill_diagonal_(-1).amax(1)
        threshold = nearest.quantile(_QUANTILE)
        similar = (normalize(unlabelled, dim=1) @ points.T).amax(1) >= threshold
        return cls(len(unlabelled), len(support), shares, 1 - float(similar.float().mean()))


@torch.no_grad()
def pool_record(warp: Warp, init: Init, tasks: TaskBatch, examples: ExampleFeatures) -> PoolRecord:
    """The record of the unlabelled texts of one task, from the features of its examples."""
    assert examples.unlabelled is not None
    parameters, labelled = init.on(warp.backbone), replace(examples, unlabelled=None)
    embeddings = class_embeddings_of(warp, parameters, tasks, labelled)[0]
    logits = warp.verbalizer.logits(examples.unlabelled, embeddings, parameters.log_scale.exp())
    return PoolRecord.of(logits, examples.unlabelled, examples.support)


def warn_about_pool(record: PoolRecord, class_names: Sequence[str]) -> None:
    """Log a warning if the unlabelled texts of a task with C classes are mostly of another kind; otherwise, if they
    seem to lack a class."""
    n_classes = len(class_names)
    if record.n_labelled >= LEAST_LABELLED and record.unlike > UNLIKE_SHARE:
        message = (
            "%.0f %% of the unlabelled texts are unlike every labelled text: give texts of the kind to be classified"
        )
        logger.warning(message, 100 * record.unlike)
        return
    limit = ABSENT_SHARE / n_classes
    absent = [name for name, share in zip(class_names, record.shares.tolist(), strict=False) if share < limit]
    if absent and record.n_texts >= TEXTS_PER_CLASS * n_classes:
        logger.warning("almost no unlabelled text seems to belong to these classes: %s", quoted(absent, 3))
