"""Tasks with all classes of a corpus: some training texts per class, and the official test texts.

The corpora are folders with a train.jsonl and a test.jsonl ({"text", "label"} per line), and the published few-shot
files of HWU64 in `hwu64/published`, which are called hwu64_5 and hwu64_10.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes.reading import read_table
from metawarp.tasks.examples import Examples


@dataclass(frozen=True)
class Draw:
    """Labelled texts of a task, and test texts with their labels."""

    examples: Examples
    texts: list[str]
    labels: list[str]


def draws(folder: Path, corpus: str, k_shot: int, n_draws: int, n_test: int) -> Iterator[Draw]:
    """Tasks of all classes of a corpus with k texts per class, drawn with the seeds 0, 1, …, and up to `n_test` test
    texts. A published file is one draw."""
    name, _, shots = corpus.partition("_")
    published = name == "hwu64"
    where = folder / "hwu64" / "published" if published else folder / corpus
    train = read_table(str(where / (f"train_{shots}.jsonl" if published else "train.jsonl")), "text", "label")
    test = read_table(str(where / "test.jsonl"), "text", "label")
    labels, chosen = np.array([str(label) for label in train.labels]), _drawn(len(test.texts), n_test, 0)
    for seed in range(1 if published else n_draws):
        rows = np.arange(len(labels))
        if not published:
            of_classes = (np.where(labels == label)[0] for label in sorted(set(labels.tolist())))
            rows = np.concatenate([own[_drawn(len(own), k_shot, seed)] for own in of_classes])
        examples = Examples.of([train.texts[row] for row in rows], labels[rows].tolist(), None)
        yield Draw(examples, [test.texts[row] for row in chosen], [str(test.labels[row]) for row in chosen])


def add_draw_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which tasks are drawn, and on which backbone."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", required=True, help="names of corpora")
    parser.add_argument("--draws", type=int, default=4, help="number of tasks")
    parser.add_argument("--tests", type=int, default=500, help="largest number of test texts")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")


def _drawn(number: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(number)[:size]
