"""Regularizers of an init, by name in one table: losses of what it predicts, and reads, before any inner loop.

Each shifts the tokens of texts against the loss of their labels: e′ = e + ‖e‖·δ with ‖δ‖ = ε for each, which is e / ‖e‖
shifted by δ, so that frequent words, whose embeddings are shorter, are not shifted by more. That is SiFT's idea (below)
for a frozen model, which has to be given embeddings of the length that it knows; SiFT itself goes against the
divergence from a first, random shift. With `prompt_layer`, what is shifted are the states that enter that layer.

References:
    He, Liu, Gao, Chen (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 4 (SiFT).
    Miao, Zhang, Xie, Song, Shi (2021), "Simple Contrastive Representation Adversarial Learning for NLP Tasks" (SCAL):
    adversarial examples by the loss of the labels, and a contrastive loss of both.
    Khosla et al. (2020), "Supervised Contrastive Learning", NeurIPS, eq. 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.adaptation.adapt import read, start, task_logits, task_losses
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.model.warp import State, Warp

TEMPERATURE = 0.1
"""τ of the contrastive loss (Khosla et al., sec. 4)."""


def sift(warp: Warp, state: State, tasks: TaskBatch, size: float) -> Tensor:
    """KL(p ‖ p′) + KL(p′ ‖ p), the mean over a task's queries: p as they are, p′ shifted by ε against their loss."""
    current, _ = start(warp, state, tasks)
    plain, moved = (
        task_logits(warp, current, read(warp, current, texts), tasks.query, tasks).log_softmax(-1)
        for texts in (tasks.query, shifted(warp, current, tasks, tasks.query, size))
    )
    absent = ~tasks.class_mask[tasks.query.task]
    plain, moved = plain.masked_fill(absent, 0.0), moved.masked_fill(absent, 0.0)
    each = ((plain.exp() - moved.exp()) * (plain - moved)).sum(-1)
    return _mean_by_task(each, torch.ones_like(each), tasks.query.task, len(tasks))


def scal(warp: Warp, state: State, tasks: TaskBatch, size: float) -> Tensor:
    """Supervised contrastive loss of the read-outs of support texts and of adversarially shifted copies of them.

    -1/|P(i)| Σ_p log(exp(z_i·z_p / τ) / Σ_a exp(z_i·z_a / τ)), p the others of the class, a all others of the task; the
    mean over a task's texts. Where no task has support texts, their queries are taken.
    """
    texts = tasks.support if len(tasks.support) else tasks.query
    current, _ = start(warp, state, tasks)
    both = (texts, shifted(warp, current, tasks, texts, size))
    features = torch.cat([read(warp, current, one) for one in both])
    return contrastive_loss(features, texts.task.repeat(2), texts.label.repeat(2), len(tasks))


def contrastive_loss(features: Tensor, task: Tensor, label: Tensor, n_tasks: int) -> Tensor:
    """Of features (B, d) of T tasks: near those of the same class, far from others of the same task."""
    features = normalize(features, dim=-1)
    others = (task[:, None] == task) & ~torch.eye(len(task), dtype=torch.bool, device=task.device)
    kin = others & (label[:, None] == label)
    scores = (features @ features.T / TEMPERATURE).masked_fill(~others, -1e4)  # far below all; -inf has no slope
    each = (scores - scores.logsumexp(-1, keepdim=True)).where(kin, 0.0).sum(-1) / kin.sum(-1).clamp(min=1)
    return -_mean_by_task(each, kin.any(-1).to(each), task, n_tasks)


def shifted(warp: Warp, current: State, tasks: TaskBatch, texts: LabelledTexts, size: float) -> LabelledTexts:
    """Texts with every token of theirs shifted by `size` of its length, to where the loss of the labels rises fastest.

    Args:
        warp: the model.
        current: the state of the tasks, as `start` gives it.
        tasks: T tasks.
        texts: some of theirs.
        size: ε.
    """
    batch = texts.batch
    assert batch is not None
    place = torch.zeros(*batch.input_ids.shape, warp.form.width, device=warp.backbone.device).to(warp.backbone.dtype)
    at = replace(texts, batch=replace(batch, shift=place.requires_grad_()))
    with torch.enable_grad():
        losses = task_losses(warp, current, read(warp, current, at), texts, tasks)
        (gradient,) = torch.autograd.grad(losses.sum(), place)
    inside = (batch.text_mask & batch.attention_mask).to(gradient.device)
    return replace(texts, batch=replace(batch, shift=size * normalize(gradient, dim=-1) * inside[..., None]))


def _mean_by_task(values: Tensor, counts: Tensor, task: Tensor, n_tasks: int) -> Tensor:
    # The mean over tasks of the means over their texts: as processes that share the tasks find it too.
    totals, numbers = (values.new_zeros(n_tasks).index_add(0, task, each) for each in (values * counts, counts))
    return (totals / numbers.clamp(min=1)).mean()


REGULARIZERS: dict[str, Callable[[Warp, State, TaskBatch, float], Tensor]] = {"sift": sift, "scal": scal}
