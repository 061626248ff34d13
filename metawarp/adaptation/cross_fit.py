"""Held-out logits of a task's own texts: each half of the support set is classified by what was adapted on the other.

Steps on a leave-one-out loss fit the adapter to all support texts, so their own loss says too little about new texts.

References:
    Stone (1974), "Cross-Validatory Choice and Assessment of Statistical Predictions",
    Journal of the Royal Statistical Society B 36, sec. 1.
"""

from dataclasses import replace

import torch
from torch import Tensor

from metawarp.adaptation.start import class_embeddings_of, logits_of, read_examples, read_texts
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch, index_in_task
from metawarp.warp import Warp


def crossed_halves(tasks: TaskBatch) -> TaskBatch:
    """2·T tasks: each of T tasks with one half of its support texts, and the other half as queries; then the same with
    the halves exchanged. A half has every second text of each class; it begins with the first text of every second
    class, so that one text per class is enough."""
    texts, n_tasks = tasks.support, len(tasks)
    number = index_in_task(texts.task * tasks.shots.shape[1] + texts.label)
    half = (number + texts.label) % 2
    support, query = _of_halves(texts, half, n_tasks), _of_halves(texts, 1 - half, n_tasks)
    names, n_way = _twice(tasks.names, n_tasks), tasks.n_way.repeat(2)
    corpus_class = tasks.corpus_class.repeat(2, 1)
    crossed = TaskBatch(names, support, query, n_way, tasks.shots.repeat(2, 1), corpus_class)
    shots = torch.zeros_like(crossed.shots)
    ones = shots.new_ones(len(support))
    return replace(crossed, shots=shots.index_put((support.task, support.label), ones, accumulate=True))


@torch.no_grad()
def query_logits(warp: Warp, inits: list[InitParameters], current: TaskParameters, tasks: TaskBatch) -> Tensor:
    """Logits (I, B, C) of B queries, under the adapters of their tasks and the class embeddings that I inits, which
    differ in the scalars of the verbalizer, compute from the support texts."""
    names, support = read_examples(warp, current, tasks)
    features = read_texts(warp, current, tasks.query)
    embeddings = [class_embeddings_of(warp, init, tasks, names, support) for init in inits]
    parameters = (replace(current, class_embeddings=own) for own in embeddings)
    return torch.stack([logits_of(warp, own, features, tasks.query, tasks) for own in parameters])


def _of_halves(texts: LabelledTexts, half: Tensor, n_tasks: int) -> LabelledTexts:
    """The texts of half 0 in tasks 0 … T-1, and those of half 1 in tasks T … 2·T-1."""
    order = torch.argsort(half, stable=True)
    chosen = texts.select(order)
    return replace(chosen, task=chosen.task + half[order] * n_tasks)


def _twice(texts: LabelledTexts, n_tasks: int) -> LabelledTexts:
    rows = torch.arange(len(texts), device=texts.task.device).repeat(2)
    second = torch.arange(2, device=rows.device).repeat_interleave(len(texts))
    chosen = texts.select(rows)
    return replace(chosen, task=chosen.task + second * n_tasks)
