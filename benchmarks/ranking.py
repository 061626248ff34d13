"""How often the ranking of inits finds the one that was trained on a task's own corpus, and what that is worth.

    python -m benchmarks.ranking --data FOLDER --init huffpost=runs/huffpost hwu64=runs/hwu64

FOLDER holds one folder per corpus, with data.jsonl and splits.json; each init was trained on the meta-training classes
of its corpus. The tasks are of test classes. Writes results/ranking.json. With --choose the tasks are of validation
classes, and the share of tasks in which the own init comes first is printed for several weights of the log-likelihood.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows, percent
from benchmarks.runner.corpora import load_corpus
from episodes import Episode, EpisodeSampler
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import interval
from metawarp.inits.init import Init
from metawarp.inits.shipped import GENERAL
from metawarp.tasks.ranking import Suitability, rank_inits
from metawarp.texts.feature_cache import FeatureCache
from metawarp.warp import Warp

FILE = RESULTS / "ranking.json"
N_WAY, SHOTS = 5, (1, 5)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
"""Weights of the log-likelihood beside the prompt similarity that --choose compares."""

CRITERIA: dict[str, Callable[[Suitability], float]] = {
    "score": lambda suitability: suitability.score,
    "log-likelihood": lambda suitability: suitability.log_likelihood,
    "prompt similarity": lambda suitability: suitability.prompt_similarity,
}
STARTS = ("best by score", "best by log-likelihood", "own init", "another init", GENERAL)
"""Inits that the tasks are adapted from; "another init" is the mean over all inits of other corpora."""


class Accuracy(TypedDict):
    """A mean accuracy with the half width of its 95 % interval."""

    accuracy: float
    ci95: float


class SettingRanking(TypedDict):
    """What is measured in one setting.

    Attributes:
        own_init_first: share of the tasks in which the own init comes first, by each criterion.
        accuracy: accuracy of the tasks from each start.
    """

    own_init_first: dict[str, float]
    accuracy: dict[str, Accuracy]


class RankingResults(TypedDict):
    """What results/ranking.json holds, by corpus and setting."""

    episodes: int
    n_way: int
    inits: list[str]
    corpora: dict[str, dict[str, SettingRanking]]


def ranking_rows(results: RankingResults) -> Rows:
    """For each corpus and number of shots, how often the own init comes first, and accuracies from each start."""
    header = ["tasks of", *(f"own init first by {name} (%)" for name in CRITERIA), *STARTS]
    rows = []
    for corpus, settings in results["corpora"].items():
        for setting, ranking in settings.items():
            shares = [f"{100 * ranking['own_init_first'][name]:.0f}" for name in CRITERIA]
            accuracies = [ranking["accuracy"][start] for start in STARTS]
            cells = [f"{percent(one['accuracy'])} ± {percent(one['ci95'])}" for one in accuracies]
            rows.append([f"{corpus}, {setting}", *shares, *cells])
    return Rows(header, rows)


def shares_by_weight(
    inits: Mapping[str, Init], own: str, backbone: Backbone, episodes: Sequence[Episode]
) -> list[float]:
    """Share of the tasks in which the own init comes first, for each of `WEIGHTS`."""
    warps, first = _models(inits, backbone), []
    for episode in tqdm(episodes, desc=own):
        ranking = rank_inits(inits, warps, episode)
        scores = [
            {name: one.prompt_similarity + weight * one.log_likelihood for name, one in ranking.items()}
            for weight in WEIGHTS
        ]
        first.append([max(score, key=lambda name: score[name]) == own for score in scores])
    return np.mean(first, axis=0).round(3).tolist()


def measure(inits: Mapping[str, Init], own: str, backbone: Backbone, episodes: Sequence[Episode]) -> SettingRanking:
    """Rank the inits for each task, and adapt to it from each of `STARTS`.

    Args:
        inits: inits by the name of the corpus that they were trained on.
        own: name of the corpus of the tasks.
        backbone: backbone of all inits.
        episodes: the tasks.
    """
    all_inits = {**inits, GENERAL: Init.from_pretrained(GENERAL)}
    warps = _models(all_inits, backbone)
    correct: dict[str, list[float]] = {start: [] for start in STARTS}
    first: dict[str, list[bool]] = {name: [] for name in CRITERIA}
    for episode in tqdm(episodes, desc=own):
        ranking = rank_inits(inits, warps, episode)
        best = {name: max(ranking, key=lambda one: value(ranking[one])) for name, value in CRITERIA.items()}
        accuracies = {name: accuracy(init, warps[name], episode) for name, init in all_inits.items()}
        values = (
            accuracies[best["score"]],
            accuracies[best["log-likelihood"]],
            accuracies[own],
            float(np.mean([accuracies[name] for name in inits if name != own])),
            accuracies[GENERAL],
        )
        for start, value in zip(STARTS, values, strict=True):
            correct[start].append(value)
        for name, init in best.items():
            first[name].append(init == own)
    return {
        "own_init_first": {name: float(np.mean(one)) for name, one in first.items()},
        "accuracy": {
            start: {"accuracy": float(np.mean(values)), "ci95": interval(np.array(values))}
            for start, values in correct.items()
        },
    }


def accuracy(init: Init, warp: Warp, episode: Episode) -> float:
    """Accuracy on the queries of a task, adapted from an init."""
    (probabilities,) = metawarp_predictor(warp, init.on(warp.backbone), init.inner)([episode])
    return float((probabilities.argmax(1) == episode.query_labels).mean())


def _models(inits: Mapping[str, Init], backbone: Backbone) -> dict[str, Warp]:
    cache = FeatureCache()  # inits read the same texts
    return {name: init.bind(backbone, cache=cache) for name, init in inits.items()}


def main() -> None:
    """Measure corpus by corpus, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with one folder per corpus")
    parser.add_argument("--init", nargs="+", required=True, help="CORPUS=FOLDER for each init")
    parser.add_argument("--episodes", type=int, default=200, help="number of tasks per corpus and number of shots")
    parser.add_argument("--choose", action="store_true", help="compare weights on validation classes instead")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    inits = {name: Init.load(folder) for name, folder in (one.split("=", 1) for one in options.init)}
    backbone = Backbone.load(next(iter(inits.values())).backbone.name)
    results: RankingResults = {"episodes": options.episodes, "n_way": N_WAY, "inits": list(inits), "corpora": {}}
    shares: list[list[float]] = []
    for corpus, k_shot in ((corpus, k_shot) for corpus in inits for k_shot in SHOTS):
        _, split = load_corpus(corpus, options.data)
        sampler = EpisodeSampler(split.validation if options.choose else split.test, N_WAY, k_shot)
        episodes = [sampler[i] for i in range(options.episodes)]
        if options.choose:
            shares.append(shares_by_weight(inits, corpus, backbone, episodes))
            print(corpus, k_shot, dict(zip(WEIGHTS, shares[-1], strict=True)))
        else:
            measured = measure(inits, corpus, backbone, episodes)
            results["corpora"].setdefault(corpus, {})[f"{k_shot}-shot"] = measured
            write_text(options.output, json.dumps(results, indent=1) + "\n")
    if options.choose:
        print("mean", dict(zip(WEIGHTS, np.mean(shares, axis=0).round(3).tolist(), strict=True)))
    else:
        print(ranking_rows(results).markdown)


if __name__ == "__main__":
    main()
