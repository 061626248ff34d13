"""Pools of texts whose labels a simulated annotator knows, and test texts, all as features of the init `general`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from episodes import Corpus, Episode
from episodes.reading import read_table
from episodes.splits import class_partition
from metawarp.adaptation.start import shared_parameters
from metawarp.inits.init import Init
from metawarp.suggestions.features import read_features
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

POOL_SIZE, N_TESTS = 3000, 1000
"""Largest number of texts of a pool, and of test texts that are drawn from the same file."""

TEST_SHARE = 0.25
"""Largest share of the texts that are test texts, if both are drawn from the same file."""

N_READ = 6000
"""Largest number of texts of a corpus without test file that are read."""


@dataclass(frozen=True)
class Problem:
    """A pool and test texts of a task with C classes.

    Attributes:
        names: (C, d) features of the class names.
        pool: (N, d) features of the pool.
        labels: (N,) classes of the pool, which only the annotator knows.
        tests: (M, d) features of the test texts.
        truth: (M,) their classes.
    """

    names: Tensor
    pool: Tensor
    labels: np.ndarray
    tests: Tensor
    truth: np.ndarray

    @property
    def n_classes(self) -> int:
        """The number of classes C."""
        return len(self.names)


@dataclass(frozen=True)
class ReadCorpus:
    """The texts of a corpus as features: all (N, d), with their classes (N,), and the test texts of its own test file,
    if it has one. `part` is the part of the class split."""

    names: Tensor
    features: Tensor
    labels: np.ndarray
    tests: Tensor | None
    truth: np.ndarray | None

    @classmethod
    def of(cls, folder: Path, corpus: str, init: Init, warp: Warp, part: str = "test") -> "ReadCorpus":
        """All texts of the published files, or those of one part of the class split."""
        where = folder / corpus / "published" if (folder / corpus / "published").exists() else folder / corpus
        truth = tests = None
        if (where / "train.jsonl").exists():
            texts, labels = _read(where / "train.jsonl")
            tests, truth = _read(where / "test.jsonl")
        else:
            loaded = Corpus.load(folder / corpus / "data.jsonl")
            names = class_partition(loaded.class_names, folder / corpus / "splits.json", 0, loaded.name)[part]
            chosen = loaded.select_classes(names)
            rows = np.random.default_rng(0).permutation(len(chosen.texts))[:N_READ]
            texts = [chosen.texts[row] for row in rows]
            labels = np.array(chosen.class_names)[chosen.labels[rows]]
        classes = np.unique(labels)
        parameters = shared_parameters(init.on(warp.backbone))

        with torch.no_grad():
            tasks = TaskBatch.encode([Episode.from_texts(classes.tolist())], warp.encoder)
            names = warp.read_names(parameters, tasks.names)
        tests = None if tests is None else read_features(warp, parameters, tests)
        truth = None if truth is None else np.searchsorted(classes, truth)
        return cls(names, read_features(warp, parameters, texts), np.searchsorted(classes, labels), tests, truth)

    def problem(self, seed: int) -> Problem:
        """A pool that is drawn with this seed, and test texts."""
        rows = np.random.default_rng(seed).permutation(len(self.labels))
        if self.tests is not None and self.truth is not None:
            pool = rows[:POOL_SIZE]
            return Problem(self.names, self.features[pool], self.labels[pool], self.tests, self.truth)
        n_tests = min(N_TESTS, round(TEST_SHARE * len(rows)))
        tests, pool = rows[:n_tests], rows[n_tests:][:POOL_SIZE]
        return Problem(self.names, self.features[pool], self.labels[pool], self.features[tests], self.labels[tests])


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    table = read_table(str(file), "text", "label")
    return list(table.texts), np.array([str(label) for label in table.labels])
