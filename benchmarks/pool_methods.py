"""Methods that use unlabelled texts, on the same features: that of metawarp, and two of scikit-learn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw
from episodes import Episode
from metawarp.adaptation.start import ExampleFeatures, class_embeddings_of, shared_parameters
from metawarp.backbones.backbone import Backbone
from metawarp.inits.init import Init
from metawarp.texts.task_batch import TaskBatch

ROUNDS = 10
"""Number of rounds of self-training; in each, a tenth of the pool gets the labels that are predicted for it."""


class Reader:
    """Features of texts under an init that takes no gradient steps; each text is read once."""

    def __init__(self, init: Init, backbone: Backbone) -> None:
        self.warp, self.init = init.bind(backbone), init.on(backbone)
        self.parameters = shared_parameters(self.init)
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Features (n, d) of n texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for first in range(0, len(new), 1024):
            batch = self.warp.encoder(new[first : first + 1024])
            read = self.warp.read(self.parameters, batch, torch.zeros(len(batch), dtype=torch.long))
            self._known |= zip(new[first : first + 1024], read, strict=True)
        width = self.warp.read_out.feature_size
        return torch.stack([self._known[text] for text in texts]) if texts else torch.empty(0, width)

    @torch.no_grad()
    def names(self, episode: Episode) -> Tensor:
        """Features (C, d) of the class names."""
        tasks = TaskBatch.encode([Episode.from_texts(episode.class_names, [], [])], self.warp.encoder)
        return self.warp.read_names(self.parameters, tasks.names)


@dataclass(frozen=True)
class PoolTask:
    """A drawn task and its features.

    Attributes:
        reader: what read the features.
        episode: labelled texts, and the pool as its unlabelled texts.
        names: (C, d) features of the class names.
        support: (n, d) features of the labelled texts.
        pool: (U, d) features of the unlabelled texts.
        tests: (m, d) features of the test texts.
    """

    reader: Reader
    episode: Episode
    names: Tensor
    support: Tensor
    pool: Tensor
    tests: Tensor

    @classmethod
    def of(cls, draw: Draw, reader: Reader) -> "PoolTask":
        """The features of a draw."""
        episode = draw.examples.episode
        texts = (list(episode.support_texts), list(episode.unlabelled_texts), draw.texts)
        return cls(reader, episode, reader.names(episode), *(reader(part) for part in texts))

    @property
    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of the labelled texts; those of the class names if there are none."""
        if len(self.support):
            return self.support.numpy(), np.asarray(self.episode.support_labels)
        return self.names.numpy(), np.arange(len(self.names))


@torch.no_grad()
def metawarp(task: PoolTask, *, uses_pool: bool = True) -> np.ndarray:
    """Classes (m,) that metawarp predicts."""
    reader, episode, (warp, init) = task.reader, task.episode, (task.reader.warp, task.reader.init)
    texts, labels, pool = episode.support_texts, episode.support_labels.tolist(), episode.unlabelled_texts
    alone = Episode.from_texts(episode.class_names, texts, labels, unlabelled_texts=pool if uses_pool else ())
    tasks = TaskBatch.encode([alone], warp.encoder)
    features = task.names, task.support if len(task.support) else None, task.pool if uses_pool and len(pool) else None
    embeddings = class_embeddings_of(warp, init, tasks, ExampleFeatures(*features))
    return warp.verbalizer.logits(task.tests, embeddings[0], reader.parameters.scale).argmax(1).numpy()


def without_pool(task: PoolTask) -> np.ndarray:
    """Classes (m,) that metawarp predicts without the pool."""
    return metawarp(task, uses_pool=False)


def logistic_regression(task: PoolTask) -> np.ndarray:
    """Classes (m,) of scikit-learn's logistic regression without the pool."""
    return LogisticRegression(C=STRENGTH, max_iter=200).fit(*task.examples).predict(task.tests.numpy())


def self_training(task: PoolTask) -> np.ndarray:
    """Classes (m,) of scikit-learn's self-training around a logistic regression.

    With equal weights of all texts, a few classes take the whole pool (11 % on HuffPost with one text per class), and
    with scikit-learn's threshold of 0.75 hardly any text is labelled. Classes are therefore balanced.
    """
    features, labels = task.examples
    regression = LogisticRegression(C=STRENGTH, max_iter=200, class_weight="balanced")
    share = max(len(task.pool) // ROUNDS, 1)
    model = SelfTrainingClassifier(regression, criterion="k_best", k_best=share, max_iter=ROUNDS)
    return model.fit(*_with_pool(features, labels, task.pool)).predict(task.tests.numpy())


def label_spreading(task: PoolTask) -> np.ndarray:
    """Classes (m,) of scikit-learn's label spreading with its default kernel, which is better than 15 neighbours."""
    model = LabelSpreading(max_iter=100).fit(*_with_pool(*task.examples, task.pool))
    return model.predict(task.tests.numpy())


def _with_pool(features: np.ndarray, labels: np.ndarray, pool: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labelled and unlabelled features, and labels, which are -1 for the latter."""
    return np.concatenate([features, pool.numpy()]), np.concatenate([labels, np.full(len(pool), -1)])


METHODS: dict[str, Callable[[PoolTask], np.ndarray]] = {
    "without": without_pool,
    "metawarp": metawarp,
    "logistic-regression": logistic_regression,
    "self-training": self_training,
    "label-spreading": label_spreading,
}
"""Methods by name, from a task to the class (m,) of each test text."""
