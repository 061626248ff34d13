"""Which of several inits suits a new task, by its own few examples.

References:
    Vu, Lester, Constant, Al-Rfou, Cer (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL,
    sec. 3: prompts as embeddings of tasks, and the best of the nearest, or their weighted mean, as a start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from episodes import Episode, InputError
from metawarp.adaptation.adapt import adapt, read, start, task_logits, task_losses
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import Backbone
from metawarp.inits.init import Init
from metawarp.model.config import WarpConfig
from metawarp.model.warp import State, Warp

TASKS_AT_ONCE = 16
"""Texts that are left out at the same time, each in a task of its own."""

LIKELIHOOD_WEIGHT = 0.3
"""Of a log-likelihood beside a cosine, chosen on tasks of the validation classes of three corpora
(`scripts/benchmark_similar.py --choose`)."""


@dataclass(frozen=True)
class Suitability:
    """How an init suits a task.

    Attributes:
        log_likelihood: of a support text's label when it is left out, mean over the texts; 0 is the best there is.
        accuracy: share of the texts left out that are right.
        prompt_similarity: cosine, -1 to 1, of the way that the init's prompt has gone from the mean of all inits'
            prompts, since what all have learned says nothing of any, and the way that the task's own examples ask for
            where prompts start. 0 for inits that are not all of one kind, and where prompts start from chance.
    """

    log_likelihood: float
    accuracy: float
    prompt_similarity: float

    @property
    def score(self) -> float:
        """What inits are ranked by: the prompt's similarity, and the likelihood with a small weight.

        The likelihood of a few texts is a noisy figure where all inits are good, and tells most where they are not.
        """
        return self.prompt_similarity + LIKELIHOOD_WEIGHT * self.log_likelihood


def models(
    inits: Mapping[str, Init], backbones: Mapping[str, Backbone], *, any_backbone: bool = False
) -> dict[str, Warp]:
    """A model for each init, by name; inits of one kind share one, and so what it remembers of texts.

    Args:
        inits: by name.
        backbones: what each is read on, by the same names.
        any_backbone: as in `Init.bind`.
    """
    of_kind: dict[tuple[str, WarpConfig], Warp] = {}
    bound = {name: init.bind(backbones[name], any_backbone=any_backbone) for name, init in inits.items()}
    return {name: of_kind.setdefault((warp.backbone.fingerprint, warp.config), warp) for name, warp in bound.items()}


def rank(inits: Mapping[str, Init], warps: Mapping[str, Warp], episode: Episode) -> dict[str, Suitability]:
    """How inits suit a task, the best first.

    Args:
        inits: by name.
        warps: what `models` made of them.
        episode: the task; its support texts count, two at least.

    Raises:
        InputError: fewer than two support texts.
    """
    if len(episode.support_labels) < 2:
        raise InputError("inits are told apart by texts left out in turn; give two labelled texts at least.")
    kinds = {warps[name] for name in inits}
    similarity = prompt_similarities(inits, kinds.pop(), episode) if len(kinds) == 1 else dict.fromkeys(inits, 0.0)
    found = {
        name: Suitability(*left_out_scores(init, warps[name], episode), similarity[name])
        for name, init in inits.items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].score))


def left_out_scores(init: Init, warp: Warp, episode: Episode) -> tuple[float, float]:
    """Mean log-likelihood of the support texts' labels, each left out in turn, and the share that is right."""
    state, likelihoods, hits = init.to(warp.backbone), [], []
    for tasks in _left_out(warp, episode):
        adapted = adapt(warp, state, tasks, init.inner, init.temperature)
        with torch.no_grad():
            logits = task_logits(warp, adapted, read(warp, adapted, tasks.query), tasks.query, tasks)
        likelihoods.append(logits.log_softmax(-1).gather(1, tasks.query.label[:, None])[:, 0])
        hits.append(logits.argmax(-1) == tasks.query.label)
    return float(torch.cat(likelihoods).mean()), float(torch.cat(hits).float().mean())


def prompt_similarities(inits: Mapping[str, Init], warp: Warp, episode: Episode) -> dict[str, float]:
    """By name, `Suitability.prompt_similarity` of inits of one kind, whose model this is."""
    nothing = dict.fromkeys(inits, 0.0)
    if warp.config.prompt_start != "mask" or not (warp.prompted.sizes or warp.rows_inside):
        return nothing  # started elsewhere each time, or read by nobody
    fresh = Init.start(warp, InnerLoop(0, ())).to(warp.backbone)
    prompts = {name: init.to(warp.backbone)["prompt"] for name, init in inits.items()}
    shared = torch.stack(list(prompts.values())).mean(0)
    ways = {name: (prompt - shared).flatten() for name, prompt in prompts.items()}
    if not any(way.any() for way in ways.values()):
        return nothing
    asked = -sum((_slope(warp, fresh, tasks) for tasks in _left_out(warp, episode)), torch.zeros_like(shared)).flatten()
    cosines = {name: float(cosine_similarity(asked, way, dim=0)) for name, way in ways.items()}
    return {name: cosine if math.isfinite(cosine) else 0.0 for name, cosine in cosines.items()}


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
    best = inits[max(found, key=lambda name: found[name].score)]

    def mean(name: str) -> Tensor:
        shares = [weight * init.tensors[name] for weight, init in zip(weights, inits.values(), strict=True)]
        return torch.stack(shares).sum(0)

    return replace(best, tensors={name: mean(name) for name in best.tensors}, fingerprint="")


def _left_out(warp: Warp, episode: Episode) -> Iterator[TaskBatch]:
    """Tasks in each of which one of the support texts is the query, several at a time."""
    texts, labels = list(episode.support_texts), episode.support_labels.tolist()

    def without(i: int) -> Episode:
        others = [*texts[:i], *texts[i + 1 :]], [*labels[:i], *labels[i + 1 :]]
        return Episode.from_texts(episode.class_names, *others, [texts[i]], [labels[i]])

    for first in range(0, len(texts), TASKS_AT_ONCE):
        some = range(first, min(first + TASKS_AT_ONCE, len(texts)))
        yield TaskBatch.encode([without(i) for i in some], warp.encoder, warp.backbone.device)


def _slope(warp: Warp, fresh: State, tasks: TaskBatch) -> Tensor:
    """Of the loss of texts left out, with respect to a fresh prompt. Rows fitted to a text itself are sure of it."""
    state = {**fresh, "prompt": fresh["prompt"].clone().requires_grad_()}
    current, _ = start(warp, state, tasks)
    loss = task_losses(warp, current, read(warp, current, tasks.query), tasks.query, tasks).sum()
    return torch.autograd.grad(loss, state["prompt"])[0]
