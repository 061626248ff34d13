"""How far the probabilities of fitted classifiers are from the share of correct predictions.

    python -m benchmarks.calibration --data FOLDER --init adaptive

Tasks are all 16 test classes of HuffPost, all 25 of HWU64, all 64 intents, and all 11 test classes of Reuters. The test
texts of all draws are put together, because the expected calibration error of a few hundred texts in 15 bins is far
from zero even for perfect probabilities. All figures are in percent.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.draws import of_each_class
from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.splits import class_partition
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.calibration import calibration_error
from metawarp.tasks.classifier import WarpClassifier

TASKS = {"huffpost": "test", "hwu64": "test", "hwu64-all": "all", "reuters": "test"}
"""The tasks, and whose classes they have."""

PARTS = {"test": ("test",), "training": ("train",), "all": ("train", "validation", "test")}


def predictions(
    folder: Path, task: str, k_shot: int, n_draws: int, n_tests: int, options: dict
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each draw, the probability (n,) of the predicted class, and whether (n,) it is correct."""
    name, _, _ = task.partition("-")
    corpus = Corpus.load(folder / name / "data.jsonl")
    parts = class_partition(corpus.class_names, folder / name / "splits.json", 0, name)
    corpus = corpus.select_classes([one for part in PARTS[TASKS[task]] for one in parts[part]])
    texts, labels = np.array(corpus.texts), np.array(corpus.class_names)[corpus.labels]
    for seed in range(n_draws):
        train = of_each_class(labels, k_shot, seed)
        others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(texts)), train))[:n_tests]
        classifier = WarpClassifier(**options).fit(texts[train].tolist(), labels[train].tolist())
        probabilities = classifier.predict_proba(texts[others].tolist())
        yield probabilities.max(1), classifier.classes_[probabilities.argmax(1)] == labels[others]


def main() -> None:
    """Measure every task and number of texts per class, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--k-shot", nargs="+", type=int, default=[1, 5, 10], help="texts per class")
    parser.add_argument("--init", default="adaptive", help="name or folder of an init")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    parser.add_argument("--draws", type=int, default=4, help="number of tasks")
    parser.add_argument("--tests", type=int, default=500, help="largest number of test texts of a task")
    options = parser.parse_args()
    settings = {"init": options.init, "backbone": Backbone.load(options.backbone)}
    header = ["task", "texts per class", "accuracy", "mean probability", "calibration error"]
    print(Rows(header, []).markdown, flush=True)
    for task in options.task:
        for k_shot in options.k_shot:
            pairs = predictions(options.data, task, k_shot, options.draws, options.tests, settings)
            confidence, correct = (np.concatenate(part) for part in zip(*pairs, strict=True))
            numbers = (correct.mean(), confidence.mean(), calibration_error(confidence, correct))
            print(f"| {' | '.join([task, str(k_shot), *(f'{100 * n:.1f}' for n in numbers)])} |", flush=True)


if __name__ == "__main__":
    main()
