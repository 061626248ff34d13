"""SiFT: predictions of perturbed queries should agree with those of the queries.

References:
    He, Liu, Gao, Chen (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 4.
"""

from torch import Tensor

from metawarp.adaptation.start import logits_of, read_texts, start
from metawarp.meta_learning.adversarial import perturbed
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch, mean_per_task
from metawarp.warp import Warp


def sift(warp: Warp, init: InitParameters, tasks: TaskBatch, epsilon: float) -> Tensor:
    """KL(p ‖ p′) + KL(p′ ‖ p), the mean over a task's queries: p as they are, p′ perturbed; see `Regularizer`."""
    parameters, _ = start(warp, init, tasks)
    plain, moved = (
        logits_of(warp, parameters, read_texts(warp, parameters, texts), tasks.query, tasks).log_softmax(-1)
        for texts in (tasks.query, perturbed(warp, parameters, tasks, tasks.query, epsilon))
    )
    absent = ~tasks.class_mask[tasks.query.task]
    plain, moved = plain.masked_fill(absent, 0.0), moved.masked_fill(absent, 0.0)
    divergence = ((plain.exp() - moved.exp()) * (plain - moved)).sum(-1)
    return mean_per_task(divergence, tasks.query.task, len(tasks)).mean()
