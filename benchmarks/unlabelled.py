"""What unlabelled texts add to a fit.

    python -m benchmarks.unlabelled --data FOLDER --init general

Intents are the published files of HWU64 with all 64 classes, headlines the 16 test classes of HuffPost. Prints the
accuracy on the test texts without and with a pool of unlabelled texts, and the seconds of the second fit. The pool is
drawn from the other training texts (HWU64) or from other texts of the same classes (HuffPost).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.draws import of_each_class
from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.reading import read_table
from episodes.splits import class_partition
from metawarp.backbones.backbone import Backbone
from metawarp.tasks.classifier import WarpClassifier

SHOTS = (0, 1, 5, 10)
"""Numbers of texts per class."""

POOLS = {"hwu64": 3000, "huffpost": 2000}
"""Number of unlabelled texts by corpus."""

N_TESTS = 1000
"""Largest number of test texts of HuffPost."""


@dataclass(frozen=True)
class Problem:
    """Labelled texts of a task with so many per class, unlabelled texts, and test texts with their labels."""

    shots: int
    texts: list[str]
    labels: list[str]
    pool: list[str]
    tests: list[str]
    truth: list[str]


def problems(folder: Path, corpus: str) -> Iterator[Problem]:
    """A problem for each of the `SHOTS`."""
    if corpus == "huffpost":
        loaded = Corpus.load(folder / corpus / "data.jsonl")
        names = class_partition(loaded.class_names, folder / corpus / "splits.json", 0, loaded.name)["test"]
        part = loaded.select_classes(names)
        texts, labels = np.array(part.texts), np.array(part.class_names)[part.labels]
        order = np.random.default_rng(0).permutation(len(texts))
        tested, rest = order[:N_TESTS], order[N_TESTS:]
        train, pool = rest[of_each_class(labels[rest], max(SHOTS), 0)], rest[-POOLS[corpus] :]
        sources = {shots: (texts[train], labels[train]) for shots in SHOTS}
        unlabelled, tests, truth = texts[pool], texts[tested], labels[tested]
    else:
        where = folder / corpus / "published"
        sources = {shots: _read(where / f"train_{10 if shots == 10 else 5}.jsonl") for shots in SHOTS}
        unlabelled, _ = _read(where / "train.jsonl")
        unlabelled = unlabelled[np.random.default_rng(0).permutation(len(unlabelled))[: POOLS[corpus]]]
        tests, truth = _read(where / "test.jsonl")
    for shots, (texts, labels) in sources.items():
        rows = of_each_class(labels, shots, 0)
        parts = texts[rows], labels[rows], unlabelled, tests, truth
        yield Problem(shots, *(part.tolist() for part in parts))


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    table = read_table(str(file), "text", "label")
    return np.array(table.texts), np.array([str(label) for label in table.labels])


def accuracy(init: str, backbone: Backbone, problem: Problem, pool: list[str]) -> tuple[float, float]:
    """Accuracy in percent on the test texts, and the seconds of the fit."""
    start = time.perf_counter()
    names = sorted(set(problem.truth))
    classifier = WarpClassifier(init, backbone).fit(problem.texts, problem.labels, names, unlabelled=pool)
    seconds = time.perf_counter() - start
    return 100 * float(np.mean(classifier.predict(problem.tests) == np.array(problem.truth))), seconds


def main() -> None:
    """Measure every corpus and number of texts, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", default=list(POOLS), choices=POOLS)
    parser.add_argument("--init", default="general", help="name or folder of an init")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    header = ["corpus", "texts per class", "without", "with a pool", "seconds"]
    print(Rows(header, []).markdown, flush=True)
    for corpus in options.corpus:
        for problem in problems(options.data, corpus):
            (plain, _), (found, seconds) = (accuracy(options.init, backbone, problem, p) for p in ([], problem.pool))
            cells = [corpus, str(problem.shots), f"{plain:.1f}", f"{found:.1f}", f"{seconds:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
