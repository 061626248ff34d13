"""Accuracy and cost of the general init on several backbones, beside logistic regression on their sentence embeddings.

    python -m benchmarks.backbones --data FOLDER minilm PATH_OF_ALL_MPNET_BASE_V2

FOLDER holds `hwu64/published` (train_5.jsonl, train_10.jsonl, test.jsonl: all 64 classes of HWU64, the files of the
repository Few-Shot-Intent-Detection) and `huffpost` (data.jsonl and splits.json). Writes results/backbones.json: the
accuracy of one fit on each published file, and the mean over episodes of the test classes of HuffPost; the parameters,
the seconds to fit 64 classes with 5 texts each, and the texts per second of `Task.predict` on the published test texts.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes.reading import read_table
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.evaluate import evaluate
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.outputs import write_text
from metawarp.tasks.classifier import WarpClassifier

FILE = RESULTS / "backbones.json"
SHOTS = (5, 10)
STRENGTH = 10.0
"""scikit-learn's C of the logistic regression, which suits sentence embeddings of unit length."""


class BackboneResults(TypedDict):
    """Results on one backbone; accuracies in percent."""

    name: str
    parameters: int
    threads: int
    fit_seconds: float
    texts_per_second: float
    accuracy: dict[str, dict[str, float]]


def measure(name: str, folder: Path, episodes: int) -> BackboneResults:
    """Results on the backbone of this name, with corpora from a folder."""
    backbone, published = Backbone.load(name), folder / "hwu64" / "published"
    encode = SentenceEncoder(backbone, None, 0, None)
    test = read_table(str(published / "test.jsonl"), "text", "label")
    truth, embeddings = np.array([str(label) for label in test.labels]), encode(test.texts)
    accuracy: dict[str, dict[str, float]] = {"general": {}, "logistic regression": {}}
    seconds = per_second = 0.0
    for k in SHOTS:
        train = read_table(str(published / f"train_{k}.jsonl"), "text", "label")
        labels = [str(label) for label in train.labels]
        start = time.perf_counter()
        classifier = WarpClassifier(backbone=backbone).fit(train.texts, labels)
        seconds = time.perf_counter() - start if k == SHOTS[0] else seconds
        start = time.perf_counter()
        predicted = classifier.predict(test.texts)
        per_second = len(test.texts) / (time.perf_counter() - start)
        regression = LogisticRegression(C=STRENGTH, max_iter=1000).fit(encode(train.texts), labels)
        accuracy["general"][f"HWU64, {k} texts"] = 100 * float((predicted == truth).mean())
        by_regression = regression.predict(embeddings)
        accuracy["logistic regression"][f"HWU64, {k} texts"] = 100 * float((by_regression == truth).mean())
    for k in (1, 5) if episodes else ():
        huffpost = folder / "huffpost"
        results = evaluate(
            "general",
            huffpost / "data.jsonl",
            splits=huffpost / "splits.json",
            backbone=backbone,
            k_shot=k,
            episodes=episodes,
            baselines=["logistic-regression"],
        )
        methods = results["methods"]
        accuracy["general"][f"HuffPost, {k} texts"] = 100 * methods["metawarp"]["accuracy"]
        (baseline,) = (one for name, one in methods.items() if name != "metawarp")
        accuracy["logistic regression"][f"HuffPost, {k} texts"] = 100 * baseline["accuracy"]
    return {
        "name": Path(name).name,
        "parameters": sum(weight.numel() for weight in backbone.model.parameters()),
        "threads": torch.get_num_threads(),
        "fit_seconds": round(seconds, 2),
        "texts_per_second": round(per_second),
        "accuracy": accuracy,
    }


def backbone_study_rows(results: list[BackboneResults]) -> Rows:
    """One row for each backbone and method."""
    cells = list(results[0]["accuracy"]["general"])
    header = ["backbone", "million parameters", "seconds to fit 64 × 5 texts", "texts per second", "method", *cells]
    rows = []
    for one in results:
        for method, accuracy in one["accuracy"].items():
            cost = [one["name"], f"{one['parameters'] / 1e6:.0f}", f"{one['fit_seconds']:.1f}"]
            cost = [*cost, str(one["texts_per_second"])] if method == "general" else ["", "", "", ""]
            rows.append([*cost, method, *(f"{accuracy[cell]:.1f}" for cell in cells)])
    return Rows(header, rows)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="+", help="name, folder or Hub id of a backbone")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--episodes", type=int, default=600, help="number of episodes of HuffPost; 0 leaves it out")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    results = [measure(name, options.data, options.episodes) for name in options.backbone]
    write_text(options.output, json.dumps(results, indent=1) + "\n")
    print(backbone_study_rows(results).markdown)


if __name__ == "__main__":
    main()
