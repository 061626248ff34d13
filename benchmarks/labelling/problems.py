"""Pools of texts whose labels a simulated annotator knows, and test texts, all as features of the init `general`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.draws import read_labelled
from episodes import Corpus, Episode
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
        pool_texts: (N,) texts of the pool.
        test_texts: (M,) test texts.
    """

    names: Tensor
    pool: Tensor
    labels: np.ndarray
    tests: Tensor
    truth: np.ndarray
    pool_texts: list[str]
    test_texts: list[str]

    @property
    def n_classes(self) -> int:
        """The number of classes C."""
        return len(self.names)


@dataclass(frozen=True)
class ReadTexts:
    """Texts, their features (N, d) and their classes (N,)."""

    texts: np.ndarray
    features: Tensor
    labels: np.ndarray

    def select(self, rows: np.ndarray) -> "ReadTexts":
        """The texts of some rows."""
        return ReadTexts(self.texts[rows], self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class ReadCorpus:
    """The features (C, d) of the class names of a corpus, its texts, and those of its own test file, if it has one."""

    names: Tensor
    train: ReadTexts
    tests: ReadTexts | None

    @classmethod
    def of(cls, folder: Path, corpus: str, init: Init, warp: Warp, part: str = "test") -> "ReadCorpus":
        """All texts of the published files, or those of one part of the class split."""
        where = folder / corpus / "published" if (folder / corpus / "published").exists() else folder / corpus
        tests = None
        if (where / "train.jsonl").exists():
            train, tests = read_labelled(where / "train.jsonl"), read_labelled(where / "test.jsonl")
        else:
            loaded = Corpus.load(folder / corpus / "data.jsonl")
            names = class_partition(loaded.class_names, folder / corpus / "splits.json", 0, loaded.name)[part]
            chosen = loaded.select_classes(names)
            rows = np.random.default_rng(0).permutation(len(chosen.texts))[:N_READ]
            train = np.array(chosen.texts)[rows], np.array(chosen.class_names)[chosen.labels[rows]]
        classes = np.unique(train[1])
        parameters = shared_parameters(init.on(warp.backbone))

        def read(texts: np.ndarray, labels: np.ndarray) -> ReadTexts:
            features = read_features(warp, parameters, texts.tolist())
            return ReadTexts(texts, features, np.searchsorted(classes, labels))

        with torch.no_grad():
            encoded = TaskBatch.encode([Episode.from_texts(classes.tolist())], warp.encoder)
            features_of_names = warp.read_names(parameters, encoded.names)
        return cls(features_of_names, read(*train), None if tests is None else read(*tests))

    def problem(self, seed: int) -> Problem:
        """A pool that is drawn with this seed, and test texts."""
        rows = np.random.default_rng(seed).permutation(len(self.train.labels))
        if self.tests is not None:
            pool, tests = self.train.select(rows[:POOL_SIZE]), self.tests
        else:
            n_tests = min(N_TESTS, round(TEST_SHARE * len(rows)))
            tests, pool = (self.train.select(part) for part in (rows[:n_tests], rows[n_tests:][:POOL_SIZE]))
        texts = pool.texts.tolist(), tests.texts.tolist()
        return Problem(self.names, pool.features, pool.labels, tests.features, tests.labels, *texts)
