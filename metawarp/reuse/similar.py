"""Which of several inits suits a new task, by its own few examples.

References:
    Vu, Lester, Constant, Al-Rfou, Cer (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL,
    sec. 3: prompts as embeddings of tasks, and the best of the nearest, or their weighted mean, as a start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from episodes import Episode, InputError
from metawarp.adaptation.adapt import adapt, read, start, task_logits, task_losses
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.inits.init import Init
from metawarp.model.warp import State, Warp

TASKS_AT_ONCE = 16
"""Texts that are left out at the same time, each in a task of its own."""


@dataclass(frozen=True)
class Suitability:
    """How an init suits a task.

    Attributes:
        log_likelihood: of a support text's label when it is left out, mean over the texts; 0 is the best there is.
        accuracy: share of the texts left out that are right.
        prompt_similarity: cosine, -1 to 1, of the way that the init's prompt has gone from where prompts start and the
            way that the task's own examples ask for there; 0 for an init whose prompt stayed.
    """

    log_likelihood: float
    accuracy: float
    prompt_similarity: float


def rank(inits: Mapping[str, Init], warps: Mapping[str, Warp], episode: Episode) -> dict[str, Suitability]:
    """How inits suit a task, the best first.

    Args:
        inits: by name.
        warps: their models, by the same names.
        episode: the task; its support texts count, two at least.

    Raises:
        InputError: fewer than two support texts.
    """
    if len(episode.support_labels) < 2:
        raise InputError("inits are told apart by texts left out in turn; give two labelled texts at least.")
    found = {name: suitability(init, warps[name], episode) for name, init in inits.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1].log_likelihood))


def suitability(init: Init, warp: Warp, episode: Episode) -> Suitability:
    """How one init suits a task."""
    state, fresh = init.to(warp.backbone), Init.start(warp, InnerLoop(0, ())).to(warp.backbone)
    way = state["prompt"] - fresh["prompt"]
    likelihoods, hits, slope = [], [], torch.zeros_like(way)
    for first in range(0, len(episode.support_labels), TASKS_AT_ONCE):
        left_out = range(first, min(first + TASKS_AT_ONCE, len(episode.support_labels)))
        tasks = TaskBatch.encode([_without(episode, i) for i in left_out], warp.encoder, warp.backbone.device)
        adapted = adapt(warp, state, tasks, init.inner, init.temperature)
        with torch.no_grad():
            logits = task_logits(warp, adapted, read(warp, adapted, tasks.query), tasks.query, tasks)
        likelihoods.append(logits.log_softmax(-1).gather(1, tasks.query.label[:, None])[:, 0])
        hits.append(logits.argmax(-1) == tasks.query.label)
        if way.any():
            slope += _slope(warp, fresh, tasks)
    similarity = float(cosine_similarity(-slope.flatten().float(), way.flatten().float(), dim=0))
    return Suitability(
        float(torch.cat(likelihoods).mean()),
        float(torch.cat(hits).float().mean()),
        similarity if math.isfinite(similarity) else 0.0,
    )


def averaged(inits: Mapping[str, Init], found: Mapping[str, Suitability], n_texts: int) -> Init:
    """Weighted mean of inits of one kind, as SPoT starts from several prompts: the numbers of the best, and its name.

    The weight of an init is in proportion to the likelihood that it gave the n support texts left out.

    Raises:
        InputError: inits of different backbones, templates, forms or inner loops.
    """
    kinds = {(str(dict(init.backbone)), init.warp, init.inner) for init in inits.values()}
    if len(kinds) > 1:
        raise InputError(
            "inits of different backbones, templates, forms or inner loops have no mean; let the best be picked."
        )
    scores = torch.tensor([found[name].log_likelihood * n_texts for name in inits], dtype=torch.float64)
    weights = scores.softmax(0).float()
    best = inits[max(found, key=lambda name: found[name].log_likelihood)]

    def mean(name: str) -> Tensor:
        shares = [weight * init.tensors[name] for weight, init in zip(weights, inits.values(), strict=True)]
        return torch.stack(shares).sum(0)

    return replace(best, tensors={name: mean(name) for name in best.tensors}, fingerprint="")


def _without(episode: Episode, left_out: int) -> Episode:
    texts, labels = list(episode.support_texts), episode.support_labels.tolist()
    text, label = texts.pop(left_out), labels.pop(left_out)
    return Episode.from_texts(episode.class_names, texts, labels, [text], [label])


def _slope(warp: Warp, fresh: State, tasks: TaskBatch) -> Tensor:
    """Of the loss of texts left out, with respect to a fresh prompt. Rows fitted to a text itself are sure of it."""
    state = {**fresh, "prompt": fresh["prompt"].clone().requires_grad_()}
    current, _ = start(warp, state, tasks)
    loss = task_losses(warp, current, read(warp, current, tasks.query), tasks.query, tasks).sum()
    return torch.autograd.grad(loss, state["prompt"])[0]
