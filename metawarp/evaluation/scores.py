"""Scores over episodes: every method on the same ones, mean ± 95 % interval, paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import f1_score
from tqdm import tqdm

from episodes import Episode, InputError
from episodes.sampler import Sampler
from metawarp.evaluation.calibration import calibration_error
from metawarp.evaluation.predictors import Predictor
from metawarp.processes import SINGLE, Processes

Z95, INTERVAL = 1.959964, "mean ± 1.96·s/√episodes"
"""Two-sided 95 % quantile of the normal distribution, and the definition of `interval` for readers of results."""


@dataclass(frozen=True)
class Scores:
    """Scores of one method on E episodes.

    Attributes:
        accuracy: (E,) accuracy of each episode, 0 to 1.
        macro_f1: (E,) F1 of each episode, averaged over its classes, 0 to 1.
        confidence: (n,) probability of the predicted class of every query; empty for methods without probabilities.
        correct: (n,), whether these predictions are correct.
    """

    accuracy: np.ndarray
    macro_f1: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The scores as results.json holds them."""
        means = {"accuracy": float(self.accuracy.mean()), "ci95": interval(self.accuracy)}
        means["macro_f1"] = float(self.macro_f1.mean())
        error = calibration_error(self.confidence, self.correct) if len(self.correct) else None
        return {**means, "calibration_error": error, "per_episode": self.accuracy.tolist()}


def score(
    predictor: Predictor, sampler: Sampler, n_episodes: int, *, label: str = "", processes: Processes = SINGLE
) -> Scores:
    """The scores of one method on episodes 0 … E-1 of a sampler; the label is that of the progress bar, "" for none."""
    episodes = [sampler[i] for i in processes.share(n_episodes)]
    no_bar = None if label and processes.is_main else True
    bar = tqdm(episodes, desc=label or None, unit="episode", disable=no_bar, leave=False)
    own = [_scores_of(episode, scores) for episode, scores in zip(bar, predictor(episodes), strict=True)]
    accuracy, macro_f1, confidence, correct = zip(*processes.in_order(own, n_episodes), strict=True)
    return Scores(np.array(accuracy), np.array(macro_f1), np.concatenate(confidence), np.concatenate(correct))


def mean_accuracy(predictor: Predictor, sampler: Sampler, n_episodes: int, processes: Processes = SINGLE) -> float:
    """The mean accuracy on the same episodes, without the other scores."""
    episodes = [sampler[i] for i in processes.share(n_episodes)]
    predicted = (scores.argmax(1) for scores in predictor(episodes))
    own = [np.mean(labels == e.query_labels) for e, labels in zip(episodes, predicted, strict=True)]
    return float(np.mean(processes.in_order(own, n_episodes)))


def _scores_of(episode: Episode, scores: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    predicted = scores.argmax(1)
    settings: dict[str, Any] = {"labels": list(range(episode.n_way)), "average": "macro", "zero_division": 0.0}
    f1: Any = f1_score(episode.query_labels, predicted, **settings)
    correct = predicted == episode.query_labels
    is_probability = np.allclose(scores.sum(1), 1) and (scores >= 0).all()
    kept = slice(None) if is_probability else slice(0)
    return float(correct.mean()), float(f1), scores.max(1)[kept], correct[kept]


def compare(
    predictors: Mapping[str, Predictor], sampler: Sampler, n_episodes: int, processes: Processes = SINGLE
) -> dict[str, Any]:
    """The scores of every method on the same episodes 0 … E-1.

    "methods" has the summary of each. "paired" has, for each method but the first, the accuracy of the first minus that
    of the method, episode by episode: the mean "difference", half width "ci95" of its 95 % interval, and "p_holm", its
    two-sided p-value, corrected for the number of comparisons.
    """
    scores = {name: score(p, sampler, n_episodes, label=name, processes=processes) for name, p in predictors.items()}
    first, *others = scores
    differences = {f"{first} - {name}": scores[first].accuracy - scores[name].accuracy for name in others}
    methods = {name: values.summary() for name, values in scores.items()}
    return {"methods": methods, "paired": paired_differences(differences)}


def format_results(results: Mapping[str, Any]) -> str:
    """Results of `compare` as a table, in percent with the half width of the 95 % interval."""
    first = next(iter(results["methods"]))
    lines = [f"{'method':<22} {'accuracy':>14} {'macro-F1':>9}   {first} minus method"]
    for name, scores in results["methods"].items():
        pair = results["paired"].get(f"{first} - {name}")
        line = f"{name:<22} {scores['accuracy']:>7.2%} ±{scores['ci95'] * 100:>5.2f} {scores['macro_f1']:>9.2%}"
        lines.append(line + (f"   {pair['difference'] * 100:+.2f} ± {pair['ci95'] * 100:.2f}" if pair else ""))
    return "\n".join(lines)


def paired_differences(differences: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean, interval and corrected p-value of several differences, each (E,), episode by episode."""
    corrected = holm([p_value(difference) for difference in differences.values()])
    return {
        name: {"difference": float(difference.mean()), "ci95": interval(difference), "p_holm": p}
        for (name, difference), p in zip(differences.items(), corrected, strict=True)
    }


def p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of the mean of E >= 2 paired differences, by the normal distribution."""
    standard_error = interval(differences) / Z95
    if standard_error == 0:
        return float(differences.mean() == 0)
    return math.erfc(abs(float(differences.mean())) / standard_error / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, corrected so that the family-wise error rate is controlled (Holm, 1979,
    "A Simple Sequentially Rejective Multiple Test Procedure")."""
    order, corrected = np.argsort(p_values, kind="stable"), np.empty(len(p_values))
    factors = np.arange(len(p_values), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * np.array(p_values)[order]))
    return corrected.tolist()


def interval(values: np.ndarray) -> float:
    """Half width of the 95 % interval of a mean over E >= 2 episodes: 1.96·s/√E."""
    return float(Z95 * values.std(ddof=1) / np.sqrt(len(values)))


def require_interval(episodes: int) -> None:
    """Check that there are enough episodes for an interval; InputError if there are fewer than 2."""
    if episodes < 2:
        raise InputError(f"episodes={episodes} must be at least 2, so that the mean has an interval.")
