"""Strategies by name: random choice, four of the library small-text, and that of `metawarp.suggest`."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from benchmarks.labelling.feature_classifier import FeatureClassifier
from benchmarks.labelling.problems import Problem
from metawarp.suggestions.strategy import Pool

Strategy = Callable[[Problem, np.ndarray, int, FeatureClassifier, int], np.ndarray]
"""The rows of n further texts, from the problem, the rows that are labelled, n, the present classifier and a seed. Of
`Problem.labels`, a strategy sees those of the labelled rows alone."""

SMALL_TEXT = {
    "breaking ties": "BreakingTies",
    "embedding k-means": "EmbeddingKMeans",
    "contrastive": "ContrastiveActiveLearning",
    "lightweight coreset": "LightweightCoreset",
}
"""Classes of small-text by the name of the strategy, with their default settings."""


def strategy_named(name: str) -> Strategy:
    """The strategy "random", "suggest", or one of small-text; ImportError without small-text."""
    if name in SMALL_TEXT:
        return _of_small_text(getattr(import_module("small_text"), SMALL_TEXT[name])())
    return {"random": _random, "suggest": _suggest}[name]


def random_choice(problem: Problem, labelled: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The rows (n,) of further texts that are drawn at random, from the rows that are labelled."""
    return np.random.default_rng([seed, len(labelled)]).choice(_rest(problem, labelled), n, replace=False)


def _random(problem: Problem, labelled: np.ndarray, n: int, classifier: FeatureClassifier, seed: int) -> np.ndarray:
    return random_choice(problem, labelled, n, seed)


def _suggest(problem: Problem, labelled: np.ndarray, n: int, classifier: FeatureClassifier, seed: int) -> np.ndarray:
    probabilities = torch.as_tensor(classifier.predict_proba(problem.pool))
    labels = torch.as_tensor(problem.labels[labelled])
    pool = Pool(problem.pool, probabilities, torch.as_tensor(labelled), labels)
    return np.array(pool.most_worth_labelling(n))


def _of_small_text(strategy: Any) -> Strategy:
    def choose(problem: Problem, labelled: np.ndarray, n: int, classifier: FeatureClassifier, seed: int) -> np.ndarray:
        np.random.seed(seed)  # small-text draws from the global generator
        features, rest = problem.pool.numpy(), _rest(problem, labelled)
        return np.array(strategy.query(classifier, features, rest, labelled, problem.labels[labelled], n=n))

    return choose


def _rest(problem: Problem, labelled: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(len(problem.labels)), labelled)
