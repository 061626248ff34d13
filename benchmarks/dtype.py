"""Accuracy and speed of an init in bfloat16 beside float32, on the same episodes.

    python -m benchmarks.dtype --init runs/huffpost --corpus data.jsonl --splits splits.json

Writes results/dtype.json: for each data type accuracy with its 95 % interval and seconds, and the paired difference.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TypedDict

import torch

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows, percent
from episodes import Corpus, EpisodeSampler
from episodes.protocol import tested_classes
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import Scores, interval, score
from metawarp.inits.init import Init
from metawarp.texts.feature_cache import FeatureCache

FILE = RESULTS / "dtype.json"


class DtypeScores(TypedDict):
    """Scores of one data type, and the seconds that they took."""

    accuracy: float
    ci95: float
    macro_f1: float
    seconds: float


class Difference(TypedDict):
    """Accuracy in bfloat16 minus accuracy in float32, over the same episodes."""

    difference: float
    ci95: float


class SettingScores(TypedDict):
    """What is measured in one setting."""

    float32: DtypeScores
    bfloat16: DtypeScores
    difference: Difference


class DtypeResults(TypedDict):
    """What results/dtype.json holds; `classes` is the number of tested classes."""

    episodes: int
    threads: int
    classes: int
    settings: dict[str, SettingScores]


def dtype_rows(results: DtypeResults) -> Rows:
    """Accuracy in both data types, their paired difference, and seconds."""
    rows = []
    for setting, scores in results["settings"].items():
        both = (scores["float32"], scores["bfloat16"])
        accuracies = [f"{percent(one['accuracy'])} ± {percent(one['ci95'])}" for one in both]
        difference = scores["difference"]
        paired = f"{100 * difference['difference']:+.2f} ± {100 * difference['ci95']:.2f}".replace("-", "−")
        rows.append([setting, *accuracies, paired, *(f"{one['seconds']:.0f}" for one in both)])
    return Rows(["accuracy (%)", "float32", "bfloat16", "difference", "seconds, float32", "seconds, bfloat16"], rows)


def measure(init: Init, dtype: str, tested: Corpus, k_shot: int, episodes: int) -> tuple[Scores, float]:
    """Scores of an init in one data type on 5-way episodes, and the seconds that they took."""
    backbone, sampler = Backbone.load(init.backbone.name, dtype=dtype), EpisodeSampler(tested, 5, k_shot, 10)
    predictor = metawarp_predictor(init.bind(backbone, cache=FeatureCache()), init.on(backbone), init.inner)
    start = time.perf_counter()
    scores = score(predictor, sampler, episodes)
    return scores, time.perf_counter() - start


def summary(scores: Scores, seconds: float) -> DtypeScores:
    """The scores as results/dtype.json holds them."""
    return {
        "accuracy": float(scores.accuracy.mean()),
        "ci95": interval(scores.accuracy),
        "macro_f1": float(scores.macro_f1.mean()),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="folder of the init, or name of a shipped one")
    parser.add_argument("--corpus", required=True, help="file of the corpus, or name of a bundled one")
    parser.add_argument("--splits", help="splits.json with the class names of each part")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5], help="numbers of support texts per class")
    parser.add_argument("--episodes", type=int, default=300, help="number of episodes")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    init = Init.from_pretrained(options.init)
    _, tested = tested_classes(Corpus.load(options.corpus), options.splits, "test")
    results: DtypeResults = {
        "episodes": options.episodes,
        "threads": torch.get_num_threads(),
        "classes": tested.n_classes,
        "settings": {},
    }
    for k_shot in options.shots:
        full, full_seconds = measure(init, "float32", tested, k_shot, options.episodes)
        half, half_seconds = measure(init, "bfloat16", tested, k_shot, options.episodes)
        difference = half.accuracy - full.accuracy
        results["settings"][f"5-way {k_shot}-shot"] = {
            "float32": summary(full, full_seconds),
            "bfloat16": summary(half, half_seconds),
            "difference": {"difference": float(difference.mean()), "ci95": interval(difference)},
        }
    write_text(options.output, json.dumps(results, indent=1) + "\n")
    print(dtype_rows(results).markdown)


if __name__ == "__main__":
    main()
