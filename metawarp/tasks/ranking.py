"""Which of several inits suits a new task, judged by its own few examples.

References:
    Vu et al. (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL, sec. 3: prompts as
    embeddings of tasks, and the most similar one as a start.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from episodes import Episode, InputError
from metawarp.adaptation.adapt import adapt as adapted_tasks
from metawarp.adaptation.start import logits_of, losses_of, read_texts, start
from metawarp.config import Adapt, InnerLoop
from metawarp.inits.init import Init
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

TASKS_AT_ONCE = 16
"""Number of texts that are left out at the same time, each in a task of its own."""

LIKELIHOOD_WEIGHT = 0.3
"""Weight of the log-likelihood beside the cosine, chosen on tasks of the validation classes of three corpora by the
benchmark of rankings."""


@dataclass(frozen=True)
class Suitability:
    """How an init suits a task.

    Attributes:
        log_likelihood: mean log-likelihood of a support text's label when the text is left out; 0 is the best possible.
        accuracy: share of the left-out texts that are classified correctly.
        prompt_similarity: cosine, -1 to 1, of two directions: from the mean prompt of all compared inits to this one's
            (what all have learned does not distinguish them), and against the gradient of the loss of left-out texts at
            a fresh prompt. 0 if the inits have different configs, or if prompts start at random.
    """

    log_likelihood: float
    accuracy: float
    prompt_similarity: float

    @property
    def score(self) -> float:
        """The score that inits are ranked by: the similarity of the prompts plus the weighted log-likelihood, which is
        noisy if all inits are good, and says most if they are not."""
        return self.prompt_similarity + LIKELIHOOD_WEIGHT * self.log_likelihood


def rank_inits(
    inits: Mapping[str, Init], warps: Mapping[str, Warp], episode: Episode, *, adapt: Adapt = "auto"
) -> dict[str, Suitability]:
    """How several inits suit a task, best first; `warps` holds the model of each init by the same names.

    `adapt` is that of `WarpClassifier`.
    InputError if there are fewer than two support texts, or a class without any for an init that needs them.
    """
    if len(episode.support_labels) < 2:
        raise InputError("Inits are ranked by leaving out one text after the other; give at least two labelled texts.")
    similarity = prompt_similarities(inits, warps, episode)
    ranking = {}
    for name, init in inits.items():
        with error_about(name, len(inits)):
            scores = leave_one_out(init, warps[name], episode, adapt=adapt)
        ranking[name] = Suitability(*scores, similarity[name])
    return dict(sorted(ranking.items(), key=lambda item: -item[1].score))


def leave_one_out(init: Init, warp: Warp, episode: Episode, *, adapt: Adapt = "auto") -> tuple[float, float]:
    """Mean log-likelihood of the labels of left-out support texts, and the share that is classified correctly.

    The temperature is that of the init: that of each task would take several more fits for every text.
    """
    parameters, inner = init.on(warp.backbone), init.inner_loop(adapt)
    likelihoods, correct = [], []
    for tasks in _left_out(warp, episode):
        adapted = adapted_tasks(warp, parameters, tasks, inner, init.temperature).parameters
        with torch.no_grad():
            logits = logits_of(warp, adapted, read_texts(warp, adapted, tasks.query), tasks.query, tasks)
        likelihoods.append(logits.log_softmax(-1).gather(1, tasks.query.label[:, None])[:, 0])
        correct.append(logits.argmax(-1) == tasks.query.label)
    return float(torch.cat(likelihoods).mean()), float(torch.cat(correct).float().mean())


def prompt_similarities(inits: Mapping[str, Init], warps: Mapping[str, Warp], episode: Episode) -> dict[str, float]:
    """`Suitability.prompt_similarity` of each init, by name; 0 for all if they cannot be compared."""
    zeros = dict.fromkeys(inits, 0.0)
    if len({(warps[name].backbone.fingerprint, warps[name].config) for name in inits}) > 1:
        return zeros
    warp = next(iter(warps.values()))
    fresh, other = (Init.start(warp, InnerLoop(), seed=seed).on(warp.backbone) for seed in (0, 1))
    if "adapter" not in warp.read_out.depends_on or not torch.equal(fresh.adapter, other.adapter):
        return zeros  # the start of a random prompt is not known
    prompts = torch.stack([init.on(warp.backbone).adapter for init in inits.values()])
    directions = prompts - prompts.mean(0)
    if not directions.any():
        return zeros
    gradients = (_prompt_gradient(warp, fresh, tasks) for tasks in _left_out(warp, episode))
    gradient = sum(gradients, torch.zeros_like(fresh.adapter))
    cosines = [float(cosine_similarity(-gradient.flatten(), each.flatten(), dim=0)) for each in directions]
    return {name: cosine if math.isfinite(cosine) else 0.0 for name, cosine in zip(inits, cosines, strict=True)}


@contextmanager
def error_about(name: str, number: int) -> Iterator[None]:
    """Errors in this context name the init, if there are several."""
    try:
        yield
    except InputError as error:
        if number == 1:
            raise
        raise InputError(f"{name}: {error}") from error


def _left_out(warp: Warp, episode: Episode) -> Iterator[TaskBatch]:
    """Tasks in which one support text each is the query, several at a time."""
    rows, labels = episode.support, episode.support_labels

    def without(i: int) -> Episode:
        support = {"support": np.delete(rows, i), "support_labels": np.delete(labels, i)}
        return replace(episode, **support, query=rows[[i]], query_labels=labels[[i]])

    for first in range(0, len(rows), TASKS_AT_ONCE):
        tasks = [without(i) for i in range(first, min(first + TASKS_AT_ONCE, len(rows)))]
        yield TaskBatch.encode(tasks, warp.encoder, warp.backbone.device)


def _prompt_gradient(warp: Warp, fresh: InitParameters, tasks: TaskBatch) -> Tensor:
    """Gradient of the loss of left-out texts with respect to a fresh prompt."""
    init = replace(fresh, adapter=fresh.adapter.clone().requires_grad_())
    parameters, _ = start(warp, init, tasks)
    loss = losses_of(warp, parameters, read_texts(warp, parameters, tasks.query), tasks.query, tasks).sum()
    return torch.autograd.grad(loss, init.adapter)[0]
