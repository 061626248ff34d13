"""Tasks with some training texts per class, and test texts.

A corpus is a folder. One with a train.jsonl and a test.jsonl ({"text", "label"} per line) is a task of all its classes
with the official test texts. One with a data.jsonl and a splits.json is a task of 16 of its test classes. The published
few-shot files of HWU64 in `hwu64/published` are called hwu64_5 and hwu64_10.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes import Corpus
from episodes.reading import read_table
from episodes.splits import class_partition
from metawarp.tasks.examples import Examples

MAX_WAYS = 16
"""Largest number of classes of a task from a corpus with a class split."""


@dataclass(frozen=True)
class Draw:
    """Labelled texts of a task, and test texts with their labels."""

    examples: Examples
    texts: list[str]
    labels: list[str]


def draws(folder: Path, corpus: str, k_shot: int, n_draws: int, n_test: int) -> Iterator[Draw]:
    """Tasks with k texts per class, drawn with the seeds 0, 1, …, and up to `n_test` test texts. A published file is
    one draw."""
    published = corpus.startswith("hwu64_")
    if (folder / corpus / "data.jsonl").exists():
        loaded = Corpus.load(folder / corpus / "data.jsonl")
        names = np.array(class_partition(loaded.class_names, folder / corpus / "splits.json", 0, loaded.name)["test"])
        for seed in range(n_draws):
            part = loaded.select_classes(names[_drawn(len(names), MAX_WAYS, seed)].tolist())
            yield _of_all_classes(part, k_shot, n_test, seed)
        return
    where = folder / "hwu64" / "published" if published else folder / corpus
    train, labels = read_labelled(where / f"train{corpus.removeprefix('hwu64') * published}.jsonl")
    test, truth = read_labelled(where / "test.jsonl")
    chosen = _drawn(len(test), n_test, 0)
    for seed in range(1 if published else n_draws):
        rows = np.arange(len(labels)) if published else of_each_class(labels, k_shot, seed)
        yield _draw(train[rows], labels[rows], test[chosen], truth[chosen])


def _of_all_classes(part: Corpus, k_shot: int, n_test: int, seed: int) -> Draw:
    texts, labels = np.array(part.texts), np.array(part.class_names)[part.labels]
    rows = of_each_class(labels, k_shot, seed)
    others = np.setdiff1d(np.arange(len(texts)), rows)
    others = others[_drawn(len(others), n_test, seed)]
    return _draw(texts[rows], labels[rows], texts[others], labels[others])


def read_labelled(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The texts and labels of a file with {"text", "label"} per line."""
    table = read_table(str(file), "text", "label")
    return np.array(table.texts), np.array([str(label) for label in table.labels])


def of_each_class(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Rows of up to so many texts of each label, drawn at random."""
    rows = (np.where(labels == label)[0] for label in np.unique(labels))
    return np.concatenate([own[_drawn(len(own), number, seed)] for own in rows])


def _draw(texts: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> Draw:
    return Draw(Examples.of(texts.tolist(), labels.tolist(), None), test.tolist(), truth.tolist())


def _drawn(number: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(number)[:size]


def add_draw_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which tasks are drawn, and on which backbone."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", required=True, help="names of corpora")
    parser.add_argument("--draws", type=int, default=4, help="number of tasks")
    parser.add_argument("--tests", type=int, default=500, help="largest number of test texts")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
