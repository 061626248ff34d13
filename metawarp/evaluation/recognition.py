"""Learning to recognize unknown texts: from episodes some of whose queries belong to no class.

References:
    Platt (1999), "Probabilistic Outputs for Support Vector Machines", in "Advances in Large Margin Classifiers", MIT
    Press, sec. 2.1: a logistic regression makes scores into probabilities.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from episodes import Episode
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.recognition import Recognition, class_means_and_usual_scores, scores
from metawarp.adaptation.start import read_texts
from metawarp.evaluation.predictors import TASKS_AT_ONCE
from metawarp.inits.init import Init
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp

UNKNOWN_SHARE = 1 / 4
"""Share of the classes of an episode that are left out, so that their queries belong to no class. It is also the share
of unknown texts for which the probabilities are right."""

STRENGTH = 10.0
"""Strength (scikit-learn's C) of the logistic regression on standardized scores."""


def best_recognition(warp: Warp, init: Init, episodes: Sequence[Episode]) -> Recognition | None:
    """The coefficients that make it most likely which queries of some episodes are known; None if the model cannot
    recognize unknown texts, or no episode has three classes.

    A part of the classes of each episode is left out, so that their queries are unknown texts.
    """
    episodes = [e.with_unknown(max(round(UNKNOWN_SHARE * e.n_way), 1)) for e in episodes if e.n_way > 2]
    if not episodes or not warp.verbalizer.uses_support:
        return None
    parts, known = zip(*_scores(warp, init, episodes), strict=True)
    relative, numbers = np.concatenate(parts), [len(part) for part in parts]
    each = np.repeat([np.mean(numbers) / number for number in numbers], numbers)  # every episode counts the same
    regression = functools.partial(_coefficients, known=np.concatenate(known), weights=each)
    # How the scores are weighed must not depend on differences between episodes: each has a constant of its own.
    weights, _ = regression(np.column_stack([relative, np.repeat(np.eye(len(episodes)), numbers, axis=0)]))
    shots, ways = [float(np.mean(e.shots)) for e in episodes], [float(e.n_way) for e in episodes]
    size = np.repeat(np.stack([np.log1p(shots), np.log(ways)], axis=1), numbers, axis=0)
    (factor, *by_size), base = regression(np.column_stack([relative @ weights[:2], size]))
    by_logit, by_cosine, by_shots, by_ways = (float(value) for value in (*factor * weights[:2], *by_size))
    ranges = (min(shots), max(shots)), (min(ways), max(ways))
    return Recognition(base, by_shots, by_ways, *ranges, by_logit=by_logit, by_cosine=by_cosine)


def _coefficients(inputs: np.ndarray, known: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The coefficients and the constant of a logistic regression on n weighted texts."""
    scaler = StandardScaler().fit(inputs)
    regression = LogisticRegression(C=STRENGTH, max_iter=1000).fit(scaler.transform(inputs), known, weights)
    coefficients = regression.coef_[0] / np.asarray(scaler.scale_)
    return coefficients, float(regression.intercept_[0] - coefficients @ np.asarray(scaler.mean_))


@torch.no_grad()
def _scores(warp: Warp, init: Init, episodes: Sequence[Episode]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each episode, the scores (n, 2) of its queries and unknown texts, relative to those of its examples, and
    whether (n,) each of these texts is known."""
    parameters, encoder, device = init.on(warp.backbone), warp.encoder, warp.backbone.device
    for first in range(0, len(episodes), TASKS_AT_ONCE):
        chunk = episodes[first : first + TASKS_AT_ONCE]
        tasks = TaskBatch.encode(chunk, encoder, device)
        adapted = adapt(warp, parameters, tasks, init.inner, init.temperature, chooses=init.chooses("auto"))
        means, usual = class_means_and_usual_scores(warp, adapted.parameters, tasks, adapted.examples)
        unknown = LabelledTexts.encode([(e.unknown_texts, [0] * len(e.unknown)) for e in chunk], encoder, device)
        features = [read_texts(warp, adapted.parameters, texts) for texts in (tasks.query, unknown)]
        for task, episode in enumerate(chunk):
            n_way, scale = episode.n_way, adapted.parameters.scale.expand(len(chunk))[task]
            parts = zip(features, (tasks.query, unknown), strict=True)
            own = torch.cat([values[texts.task == task] for values, texts in parts])
            logits = warp.verbalizer.logits(own, adapted.parameters.class_embeddings[task, :n_way], scale)
            relative = scores(means[task, :n_way], own, logits) - usual[task]
            yield relative.cpu().numpy(), np.arange(len(own)) < len(episode.query)
