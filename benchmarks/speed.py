"""Speed of `Task.predict` beside sentence-transformers: `encode`, followed by scikit-learn's logistic regression.

    python -m benchmarks.speed --data FOLDER

FOLDER holds `hwu64/data.jsonl` (short texts) and `reuters/data.jsonl` (long texts). Both predict the same texts by
turns in one process, and the ratio of their times is the median over the rounds; above 1, metawarp is faster. Writes
results/speed.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes.reading import read_table
from metawarp.backbones.backbone import Backbone
from metawarp.outputs import write_text
from metawarp.tasks.classifier import WarpClassifier

FILE = RESULTS / "speed.json"
THREADS, ROUNDS = (1, 2), 5
CORPORA = {"short texts": ("hwu64", 2000), "long texts": ("reuters", 500)}
K_SHOT = 5


class Speed(TypedDict):
    """Texts per second of both, and the median of the ratios of their times."""

    texts: str
    n_texts: int
    threads: int
    metawarp: float
    sentence_transformers: float
    ratio: float


def speed_rows(results: Sequence[Speed]) -> Rows:
    """One row for each number of threads and kind of texts."""
    header = ["texts", "threads", "metawarp, texts per second", "sentence-transformers", "ratio"]
    rows = [
        [
            f"{one['n_texts']:,} {one['texts']}",
            str(one["threads"]),
            f"{one['metawarp']:.0f}",
            f"{one['sentence_transformers']:.0f}",
            f"{one['ratio']:.2f}",
        ]
        for one in results
    ]
    return Rows(header, rows)


def measure(backbone: Backbone, folder: Path, rounds: int = ROUNDS) -> list[Speed]:
    """The speed on each kind of texts with each number of threads."""
    from sentence_transformers import SentenceTransformer  # only here: the tables need no such package

    model, before = SentenceTransformer(backbone.source, device="cpu"), torch.get_num_threads()
    results: list[Speed] = []
    for kind, (corpus, number) in CORPORA.items():
        table = read_table(str(folder / corpus / "data.jsonl"), "text", "label")
        examples = _examples(table.texts, [str(label) for label in table.labels])
        texts = table.texts[-number:]
        task = WarpClassifier(backbone=backbone).fit(*examples).task_
        regression = LogisticRegression(C=10.0, max_iter=1000).fit(model.encode(examples[0]), examples[1])
        for threads in THREADS:
            torch.set_num_threads(threads)
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(_seconds(lambda texts=texts, task=task: task.predict(texts)))
                theirs.append(_seconds(lambda texts=texts, fit=regression: fit.predict(model.encode(texts))))
            ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            speeds = [len(texts) / statistics.median(seconds) for seconds in (ours, theirs)]
            results.append(Speed(
                texts=kind, n_texts=len(texts), threads=threads, metawarp=speeds[0],
                sentence_transformers=speeds[1], ratio=ratio,
            ))  # fmt: skip
    torch.set_num_threads(before)
    return results


def _examples(texts: Sequence[str], labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first texts of each class."""
    chosen = {label: [i for i, other in enumerate(labels) if other == label][:K_SHOT] for label in sorted(set(labels))}
    rows = [row for of_class in chosen.values() for row in of_class]
    return [texts[row] for row in rows], [labels[row] for row in rows]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--backbone", default="minilm", help="name, folder or Hub id of the backbone")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    results = measure(Backbone.load(options.backbone), options.data, options.rounds)
    write_text(options.output, json.dumps(results, indent=1) + "\n")
    print(speed_rows(results).markdown)


if __name__ == "__main__":
    main()
