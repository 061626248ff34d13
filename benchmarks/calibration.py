"""How far the probabilities of fitted classifiers are from the share of correct predictions.

    python -m benchmarks.calibration --data FOLDER --init adaptive

Tasks are all 16 test classes of HuffPost, all 25 of HWU64, all 64 intents, and all 11 test classes of Reuters; with
--ways, that many of these classes. The test texts of all draws are put together, because the expected calibration error
of a few hundred texts in 15 bins is far from zero even for perfect probabilities. "Before" is the error of the same
classifiers with the temperature of the init alone. All figures are in percent.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from benchmarks.draws import of_each_class
from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.splits import class_partition
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.calibration import calibration_error
from metawarp.tasks.classifier import WarpClassifier

REPORTED = {"huffpost": "test", "hwu64": "test", "hwu64-all": "all", "reuters": "test"}
"""The tasks of the documentation, and whose classes they have."""

TASKS = {**REPORTED, **dict.fromkeys(("huffpost-training", "hwu64-training", "reuters-training"), "training")}
"""All tasks; settings are chosen on those of training classes."""

PARTS = {"test": ("test",), "training": ("train",), "all": ("train", "validation", "test")}


@dataclass(frozen=True)
class Size:
    """Numbers of a task: of labelled texts per class, classes (None: all), unlabelled texts, and tests at most."""

    k_shot: int
    n_way: int | None = None
    n_unlabelled: int = 0
    n_tests: int = 500


def predictions(
    folder: Path, task: str, size: Size, n_draws: int, options: dict
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each draw, the probability (n,) of the predicted class, whether (n,) it is correct, and that probability (n,)
    without the temperature of the task."""
    name, _, _ = task.partition("-")
    corpus = Corpus.load(folder / name / "data.jsonl")
    parts = class_partition(corpus.class_names, folder / name / "splits.json", 0, name)
    corpus = corpus.select_classes([one for part in PARTS[TASKS[task]] for one in parts[part]])
    all_texts, all_labels = np.array(corpus.texts), np.array(corpus.class_names)[corpus.labels]
    for seed in range(n_draws):
        names = np.random.default_rng(seed).permutation(corpus.class_names)[: size.n_way]
        own = np.isin(all_labels, names)
        texts, labels = all_texts[own], all_labels[own]
        train = of_each_class(labels, size.k_shot, seed)
        others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(texts)), train))
        tests, pool = others[: size.n_tests], others[size.n_tests :][: size.n_unlabelled]
        unlabelled = texts[pool].tolist() if len(pool) else None
        classifier = WarpClassifier(**options).fit(texts[train].tolist(), labels[train].tolist(), None, unlabelled)
        probabilities = classifier.predict_proba(texts[tests].tolist())
        right = classifier.classes_[probabilities.argmax(1)] == labels[tests]
        assert classifier.adaptation_ is not None
        logits = np.log(probabilities.clip(np.finfo(np.float32).tiny)) * classifier.adaptation_.temperature
        yield probabilities.max(1), right, softmax(logits, axis=1).max(1)


def main() -> None:
    """Measure every task and number of texts per class, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--task", nargs="+", default=list(REPORTED), choices=TASKS)
    parser.add_argument("--k-shot", nargs="+", type=int, default=[1, 5, 10], help="texts per class")
    parser.add_argument("--init", default="adaptive", help="name or folder of an init")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    parser.add_argument("--draws", type=int, default=4, help="number of tasks")
    parser.add_argument("--ways", type=int, help="number of classes of a task; default: all")
    parser.add_argument("--unlabelled", type=int, default=0, help="largest number of unlabelled texts")
    parser.add_argument("--tests", type=int, default=500, help="largest number of test texts of a task")
    options = parser.parse_args()
    settings = {"init": options.init, "backbone": Backbone.load(options.backbone)}
    header = ["task", "texts per class", "accuracy", "mean probability", "calibration error", "before"]
    print(Rows(header, []).markdown, flush=True)
    for task in options.task:
        for k_shot in options.k_shot:
            size = Size(k_shot, options.ways, options.unlabelled, options.tests)
            parts = predictions(options.data, task, size, options.draws, settings)
            confidence, correct, before = (np.concatenate(part) for part in zip(*parts, strict=True))
            errors = (calibration_error(values, correct) for values in (confidence, before))
            numbers = (correct.mean(), confidence.mean(), *errors)
            print(f"| {' | '.join([task, str(k_shot), *(f'{100 * n:.1f}' for n in numbers)])} |", flush=True)


if __name__ == "__main__":
    main()
