"""Accuracy over episodes: every method on the same ones, mean ± 95 % interval, paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from tqdm import tqdm

from episodes import Episode, InputError
from episodes.sampler import Sampler
from metawarp import processes
from metawarp.adaptation.adapt import adapt, read, task_logits
from metawarp.adaptation.inner_loop import InnerLoop, reads_again
from metawarp.adaptation.memory import tasks_at_once
from metawarp.adaptation.tasks import TaskBatch
from metawarp.adaptation.temperature import Temperature
from metawarp.evaluation.calibration import calibration_error
from metawarp.model.warp import State, Warp

Predictor = Callable[[Sequence[Episode]], Iterator[np.ndarray]]
"""From episodes to the scores (Q, N) of each one's queries and classes, in their order; the highest is predicted.

Methods that have probabilities give these: rows that sum to 1."""

EPISODES_A_PASS = 300
"""Tasks that share one prompt and are read at the same time: texts that several of them hold are read once."""

TASKS_A_PASS = 8
"""Tasks whose prompts are adapted at the same time: each keeps a graph through the backbone."""

Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""

INTERVAL = "mean ± 1.96·s/√episodes"
"""What `interval` gives, for people."""


@dataclass(frozen=True)
class Scores:
    """What one method reached on E episodes.

    Attributes:
        accuracy: (E,) share of right predictions of each episode, 0 to 1.
        macro_f1: (E,) F1 averaged over the classes of each episode, 0 to 1.
        confidence: (n,) probability of the predicted class of all queries; empty where a method has none.
        right: (n,) whether they were.
    """

    accuracy: np.ndarray
    macro_f1: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    def summary(self) -> dict[str, Any]:
        """As results.json holds it."""
        return {
            "accuracy": float(self.accuracy.mean()),
            "ci95": interval(self.accuracy),
            "macro_f1": float(self.macro_f1.mean()),
            "calibration_error": calibration_error(self.confidence, self.right) if len(self.right) else None,
            "per_episode": self.accuracy.tolist(),
        }


def metawarp_predictor(warp: Warp, state: State, inner: InnerLoop, temperature: Temperature | None = None) -> Predictor:
    """The predictor that adapts an init's state to each episode's support set."""
    frozen = {name: tensor.detach() for name, tensor in state.items()}
    at_once = tasks_at_once(warp, inner, TASKS_A_PASS) if reads_again(warp, inner) else EPISODES_A_PASS

    def predict(episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
        for first in range(0, len(episodes), at_once):
            tasks = TaskBatch.encode(episodes[first : first + at_once], warp.encoder, warp.backbone.device)
            adapted = adapt(warp, frozen, tasks, inner, temperature)
            with torch.no_grad():
                logits = task_logits(warp, adapted, read(warp, adapted, tasks.query), tasks.query, tasks)
            chances = logits.double().softmax(-1).cpu()
            owners = tasks.query.task.cpu()
            yield from (chances[owners == task, :ways].numpy() for task, ways in enumerate(tasks.n_way.tolist()))

    return predict


def score(predictor: Predictor, sampler: Sampler, n_episodes: int, *, label: str = "") -> Scores:
    """Run one method over episodes 0 … E-1 of a sampler, which several processes share.

    Args:
        predictor: the method.
        sampler: where the episodes come from.
        n_episodes: their number E.
        label: of the progress bar (there is none without a terminal).
    """
    episodes = [sampler[i] for i in processes.share(n_episodes)]
    hidden = None if label and processes.is_main() else True
    bar = tqdm(episodes, desc=label or None, unit="episode", disable=hidden, leave=False)
    own = [_judged(episode, scores) for episode, scores in zip(bar, predictor(episodes), strict=True)]
    accuracy, macro_f1, confidence, right = zip(*processes.in_order(own, n_episodes), strict=True)
    return Scores(np.array(accuracy), np.array(macro_f1), np.concatenate(confidence), np.concatenate(right))


def _judged(episode: Episode, scores: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    predicted, labels = scores.argmax(1), list(range(episode.n_way))
    f1 = f1_score(episode.query_labels, predicted, labels=labels, average="macro", zero_division=0.0)  # pyright: ignore
    right = predicted == episode.query_labels
    certain = slice(None) if np.allclose(scores.sum(1), 1) and (scores >= 0).all() else slice(0)
    return float(right.mean()), float(f1), scores.max(1)[certain], right[certain]


def compare(predictors: Mapping[str, Predictor], sampler: Sampler, n_episodes: int) -> dict[str, Any]:
    """Run every method on the same episodes.

    Args:
        predictors: by name; the first is compared with each of the others.
        sampler: where the episodes come from.
        n_episodes: their number E.

    Returns:
        "methods": the summary of each; "paired": for each other method, the first one's accuracy minus its
        own, episode by episode: mean "difference", the half width "ci95" of its 95 % interval, and "p_holm", the
        probability of one as large by chance, corrected for the number of comparisons.
    """
    scores = {name: score(predictor, sampler, n_episodes, label=name) for name, predictor in predictors.items()}
    first, *others = scores
    differences = {f"{first} - {name}": scores[first].accuracy - scores[name].accuracy for name in others}
    return {"methods": {name: found.summary() for name, found in scores.items()}, "paired": paired(differences)}


def paired(differences: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean, interval and corrected p-value of a family of differences, (E,) each, episode by episode."""
    corrected = holm([chance(difference) for difference in differences.values()])
    return {
        name: {"difference": float(difference.mean()), "ci95": interval(difference), "p_holm": p}
        for (name, difference), p in zip(differences.items(), corrected, strict=True)
    }


def format_results(results: dict[str, Any]) -> str:
    """Results of `compare` as a table for people: percent ± half width of the 95 % interval."""
    first = next(iter(results["methods"]))
    lines = [f"{'method':<22} {'accuracy':>14} {'macro-F1':>9}   {first} minus it"]
    for name, found in results["methods"].items():
        paired = results["paired"].get(f"{first} - {name}")
        line = f"{name:<22} {found['accuracy']:>7.2%} ±{found['ci95'] * 100:>5.2f} {found['macro_f1']:>9.2%}"
        lines.append(line + (f"   {paired['difference'] * 100:+.2f} ± {paired['ci95'] * 100:.2f}" if paired else ""))
    return "\n".join(lines)


def chance(differences: np.ndarray) -> float:
    """Two-sided p-value of a mean over E >= 2 paired differences, by the normal distribution."""
    width = interval(differences) / Z95
    if width == 0:
        return float(differences.mean() == 0)
    return math.erfc(abs(float(differences.mean())) / width / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of comparisons, each corrected so that one false finding in the family is as rare as said.

    References:
        Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def require_interval(episodes: int) -> None:
    """Refuse numbers of episodes that say nothing of how far off their mean is."""
    if episodes < 2:
        raise InputError(f"episodes is {episodes}; 2 at least are needed for an interval.")


def interval(values: np.ndarray) -> float:
    """Half width of the 95 % interval of a mean over E >= 2 episodes: 1.96·s/√E."""
    return float(Z95 * values.std(ddof=1) / np.sqrt(len(values)))
