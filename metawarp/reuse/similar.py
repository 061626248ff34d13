"""Which of several inits suits a new task, by its own few examples.

References:
    Vu, Lester, Constant, Al-Rfou, Cer (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL,
    sec. 3: prompts as embeddings of tasks, and the best of the nearest, or their weighted mean, as a start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        prompt_similarity: cosine, -1 to 1, of two directions: from the mean of the prompts of all inits compared to
            this one's (what all have learned tells none apart), and against the gradient of the loss of texts left out
            at a fresh prompt. 0 for inits that are not all of one kind, and where prompts start from chance.
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

    Raises:
        InputError: names the init that is not of its backbone.
    """
    of_kind: dict[tuple[str, WarpConfig], Warp] = {}
    bound: dict[str, Warp] = {}
    for name, init in inits.items():
        with _named(name, len(inits)):
            bound[name] = init.bind(backbones[name], any_backbone=any_backbone)
    return {name: of_kind.setdefault((warp.backbone.fingerprint, warp.config), warp) for name, warp in bound.items()}


def rank(
    inits: Mapping[str, Init],
    warps: Mapping[str, Warp],
    episode: Episode,
    *,
    named: bool = True,
    steps: int | None = None,
) -> dict[str, Suitability]:
    """How inits suit a task, the best first.

    Args:
        inits: by name.
        warps: what `models` made of them.
        episode: the task; its support texts count, two at least.
        named: whether its class names mean anything.
        steps: inner steps of the task; None: as many as each init was trained with.

    Raises:
        InputError: fewer than two support texts; a class is left without rows, for an init that makes them of texts.
    """
    if len(episode.support_labels) < 2:
        raise InputError("inits are told apart by texts left out in turn; give two labelled texts at least.")
    kinds = {warps[name] for name in inits}
    similarity = dict.fromkeys(inits, 0.0)
    if len(kinds) == 1:
        similarity = prompt_similarities(inits, kinds.pop(), episode, named=named)
    found = {}
    for name, init in inits.items():
        with _named(name, len(inits)):
            scores = left_out_scores(init, warps[name], episode, named=named, steps=steps)
        found[name] = Suitability(*scores, similarity[name])
    return dict(sorted(found.items(), key=lambda item: -item[1].score))


def left_out_scores(
    init: Init, warp: Warp, episode: Episode, *, named: bool = True, steps: int | None = None
) -> tuple[float, float]:
    """Mean log-likelihood of the support texts' labels, each left out in turn, and the share that is right."""
    state, inner, likelihoods, hits = init.to(warp.backbone), init.inner.with_steps(steps), [], []
    for tasks in _left_out(warp, episode, named):
        adapted = adapt(warp, state, tasks, inner, init.temperature)
        with torch.no_grad():
            logits = task_logits(warp, adapted, read(warp, adapted, tasks.query), tasks.query, tasks)
        likelihoods.append(logits.log_softmax(-1).gather(1, tasks.query.label[:, None])[:, 0])
        hits.append(logits.argmax(-1) == tasks.query.label)
    return float(torch.cat(likelihoods).mean()), float(torch.cat(hits).float().mean())


def prompt_similarities(
    inits: Mapping[str, Init], warp: Warp, episode: Episode, *, named: bool = True
) -> dict[str, float]:
    """By name, `Suitability.prompt_similarity` of inits of one kind, whose model this is."""
    nothing = dict.fromkeys(inits, 0.0)
    fresh, other = (Init.start(warp, InnerLoop(0, ()), seed=seed).to(warp.backbone) for seed in (0, 1))
    if not warp.prompt_is_read or not torch.equal(fresh["prompt"], other["prompt"]):
        return nothing  # where inits started is not known where they start from chance
    prompts = {name: init.to(warp.backbone)["prompt"] for name, init in inits.items()}
    shared = torch.stack(list(prompts.values())).mean(0)
    directions = {name: (prompt - shared).flatten() for name, prompt in prompts.items()}
    if not any(direction.any() for direction in directions.values()):
        return nothing
    gradient = torch.zeros_like(shared)
    for tasks in _left_out(warp, episode, named):
        gradient += _prompt_gradient(warp, fresh, tasks)
    cosines = {
        name: float(cosine_similarity(-gradient.flatten(), direction, dim=0)) for name, direction in directions.items()
    }
    return {name: cosine if math.isfinite(cosine) else 0.0 for name, cosine in cosines.items()}


def averaged(inits: Mapping[str, Init], found: Mapping[str, Suitability], n_texts: int) -> Init:
    """The weighted mean of the tensors of inits of one kind, as SPoT starts from several prompts.

    Method, temperature and what is said of the training are those of the best. The weight of an init is in proportion
    to the likelihood that it gave the n support texts left out.

    Raises:
        InputError: inits of different backbones, templates, forms or inner loops.
    """
    kinds = {(init.backbone["fingerprint"], init.warp, init.inner) for init in inits.values()}
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


@contextmanager
def _named(name: str, of: int) -> Iterator[None]:
    """An error says which init of several it is about."""
    try:
        yield
    except InputError as error:
        if of == 1:
            raise
        raise InputError(f"{name}: {error}") from error


def _left_out(warp: Warp, episode: Episode, named: bool) -> Iterator[TaskBatch]:
    """Tasks in each of which one of the support texts is the query, several at a time."""
    texts, labels = list(episode.support_texts), episode.support_labels.tolist()

    def without(i: int) -> Episode:
        others = [*texts[:i], *texts[i + 1 :]], [*labels[:i], *labels[i + 1 :]]
        return Episode.from_texts(episode.class_names, *others, [texts[i]], [labels[i]])

    for first in range(0, len(texts), TASKS_AT_ONCE):
        some = range(first, min(first + TASKS_AT_ONCE, len(texts)))
        yield TaskBatch.encode([without(i) for i in some], warp.encoder, warp.backbone.device, named=named)


def _prompt_gradient(warp: Warp, fresh: State, tasks: TaskBatch) -> Tensor:
    """Of the loss of texts left out, with respect to a fresh prompt. Rows fitted to a text itself are sure of it."""
    state = {**fresh, "prompt": fresh["prompt"].clone().requires_grad_()}
    current, _ = start(warp, state, tasks)
    loss = task_losses(warp, current, read(warp, current, tasks.query), tasks.query, tasks).sum()
    return torch.autograd.grad(loss, state["prompt"])[0]
