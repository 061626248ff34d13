"""Regularizers of an init, by name in one table: losses of what it predicts, and reads, before any inner loop.

Each shifts the word embeddings of texts against itself: e′ = e + ‖e‖·δ with ‖δ‖ ≤ ε for each token, which is e / ‖e‖
shifted by δ, so that frequent words, whose embeddings are shorter, are not shifted by more (SiFT, below).

References:
    He, Liu, Gao, Chen (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 4 (SiFT).
    Miao, Zhang, Xie, Song, Shi (2021), "Simple Contrastive Representation Adversarial Learning for NLP Tasks" (SCAL).
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

    def losses(texts: LabelledTexts) -> Tensor:
        return task_losses(warp, current, read(warp, current, texts), texts, tasks).sum()

    plain, moved = (
        task_logits(warp, current, read(warp, current, texts), tasks.query, tasks).log_softmax(-1)
        for texts in (tasks.query, shifted(warp, tasks.query, losses, size))
    )
    absent = ~tasks.class_mask[tasks.query.task]
    plain, moved = plain.masked_fill(absent, 0.0), moved.masked_fill(absent, 0.0)
    each = ((plain.exp() - moved.exp()) * (plain - moved)).sum(-1)
    return _mean_by_task(each, torch.ones_like(each), tasks.query.task, len(tasks))


def scal(warp: Warp, state: State, tasks: TaskBatch, size: float) -> Tensor:
    """Supervised contrastive loss of the support texts' read-outs beside those of the same texts shifted against it.

    -1/|P(i)| Σ_p log(exp(z_i·z_p / τ) / Σ_a exp(z_i·z_a / τ)), p the others of the class, a all others of the task; the
    mean over a task's texts. Where no task has support texts, their queries are taken.
    """
    texts = tasks.support if len(tasks.support) else tasks.query
    current, _ = start(warp, state, tasks)

    def alone(texts: LabelledTexts) -> Tensor:
        return contrastive_loss(read(warp, current, texts), texts.task, texts.label, len(tasks))

    def both(moved: LabelledTexts) -> Tensor:
        features = torch.cat([read(warp, current, one) for one in (texts, moved)])
        return contrastive_loss(features, texts.task.repeat(2), texts.label.repeat(2), len(tasks))

    return both(shifted(warp, texts, alone, size))


def contrastive_loss(features: Tensor, task: Tensor, label: Tensor, n_tasks: int) -> Tensor:
    """Of features (B, d) of T tasks: near those of the same class, far from others of the same task."""
    features = normalize(features, dim=-1)
    others = (task[:, None] == task) & ~torch.eye(len(task), dtype=torch.bool, device=task.device)
    kin = others & (label[:, None] == label)
    scores = (features @ features.T / TEMPERATURE).masked_fill(~others, -1e4)  # far below all; -inf has no slope
    each = (scores - scores.logsumexp(-1, keepdim=True)).where(kin, 0.0).sum(-1) / kin.sum(-1).clamp(min=1)
    return -_mean_by_task(each, kin.any(-1).to(each), task, n_tasks)


def shifted(warp: Warp, texts: LabelledTexts, loss: Callable[[LabelledTexts], Tensor], size: float) -> LabelledTexts:
    """Texts with every token of theirs shifted by `size` of its length, to where the loss rises fastest.

    Args:
        warp: the model.
        texts: B of them.
        loss: of the texts; from where they are, so it must not be at its least there.
        size: ε.
    """
    batch = texts.batch
    assert batch is not None
    place = torch.zeros(*batch.input_ids.shape, warp.form.width, device=warp.backbone.device).to(warp.backbone.dtype)
    place.requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(loss(replace(texts, batch=replace(batch, shift=place))), place)
    inside = (batch.text_mask & batch.attention_mask).to(slope.device)
    return replace(texts, batch=replace(batch, shift=size * normalize(slope, dim=-1) * inside[..., None]))


def _mean_by_task(values: Tensor, counts: Tensor, task: Tensor, n_tasks: int) -> Tensor:
    # The mean over tasks of the means over their texts: as processes that share the tasks find it too.
    totals, numbers = (values.new_zeros(n_tasks).index_add(0, task, each) for each in (values * counts, counts))
    return (totals / numbers.clamp(min=1)).mean()


REGULARIZERS: dict[str, Callable[[Warp, State, TaskBatch, float], Tensor]] = {"sift": sift, "scal": scal}
