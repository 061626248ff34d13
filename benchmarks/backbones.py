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
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.evaluate import evaluate
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.tasks.classifier import WarpClassifier

FILE = RESULTS / "backbones.json"
SHOTS = (5, 10)
GENERAL, REGRESSION = "general", "logistic regression"
"""Names of the methods in the table."""
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
    backbone = Backbone.load(name)
    results: BackboneResults = {
        "name": Path(name).name,
        "parameters": sum(weight.numel() for weight in backbone.model.parameters()),
        "threads": torch.get_num_threads(),
        "fit_seconds": 0.0,
        "texts_per_second": 0.0,
        "accuracy": {GENERAL: {}, REGRESSION: {}},
    }
    _add_published_files(results, backbone, folder / "hwu64" / "published")
    if episodes:
        _add_episodes(results, backbone, folder / "huffpost", episodes)
    return results


def _add_published_files(results: BackboneResults, backbone: Backbone, folder: Path) -> None:
    """The accuracy of one fit on each file, and the cost of the first fit and of its predictions."""
    encode = SentenceEncoder(backbone, None, 0, None)
    test = read_table(str(folder / "test.jsonl"), "text", "label")
    truth, embeddings = np.array([str(label) for label in test.labels]), encode(test.texts)
    for k in SHOTS:
        train = read_table(str(folder / f"train_{k}.jsonl"), "text", "label")
        labels = [str(label) for label in train.labels]
        start = time.perf_counter()
        classifier = WarpClassifier("general", backbone).fit(train.texts, labels)
        fitted = time.perf_counter()
        predicted = classifier.predict(test.texts)
        if k == SHOTS[0]:
            results["fit_seconds"] = round(fitted - start, 2)
            results["texts_per_second"] = round(len(test.texts) / (time.perf_counter() - fitted))
        regression = LogisticRegression(C=STRENGTH, max_iter=1000).fit(encode(train.texts), labels)
        for method, labels_of_texts in ((GENERAL, predicted), (REGRESSION, regression.predict(embeddings))):
            results["accuracy"][method][f"HWU64, {k} texts"] = 100 * float((labels_of_texts == truth).mean())


def _add_episodes(results: BackboneResults, backbone: Backbone, folder: Path, episodes: int) -> None:
    """The mean accuracy over episodes of five test classes."""
    for k in (1, 5):
        evaluated = evaluate(
            "general",
            folder / "data.jsonl",
            splits=folder / "splits.json",
            backbone=backbone,
            k_shot=k,
            episodes=episodes,
            baselines=["logistic-regression"],
        )
        for name, method in evaluated["methods"].items():
            row = GENERAL if name == "metawarp" else REGRESSION
            results["accuracy"][row][f"HuffPost, {k} texts"] = 100 * method["accuracy"]


def backbone_study_rows(results: list[BackboneResults]) -> Rows:
    """One row for each backbone and method."""
    cells = list(results[0]["accuracy"][GENERAL])
    header = ["backbone", "million parameters", "seconds to fit 64 × 5 texts", "texts per second", "method", *cells]
    rows = []
    for one in results:
        for method, accuracy in one["accuracy"].items():
            cost = [one["name"], f"{one['parameters'] / 1e6:.0f}", f"{one['fit_seconds']:.1f}"]
            cost = [*cost, str(one["texts_per_second"])] if method == GENERAL else ["", "", "", ""]
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
