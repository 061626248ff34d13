"""Methods for tasks with unlabelled texts: those of metawarp and scikit-learn on the same features, and SetFit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw
from episodes import Episode
from metawarp.adaptation.start import shared_parameters
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.inits.init import Init
from metawarp.tasks.task import Task
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch

ROUNDS = 10
"""Number of rounds of self-training; in each, a tenth of the pool gets the labels that are predicted for it."""


Predict = Callable[[], np.ndarray]
"""A function that returns the class (m,) of each test text."""


class Reader:
    """Features of texts under an init as it is before any gradient step.

    Those of an init without steps are kept, so that a fit finds them. An init with steps reads texts anew in each fit.
    """

    def __init__(self, init: Init, backbone: Backbone) -> None:
        self.init, self.backbone = init, backbone
        self.warp = init.bind(backbone, cache=None if init.inner.moving else FeatureCache())
        self.parameters = shared_parameters(init.on(backbone))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features (n, d) of n texts."""
        if not texts:
            return torch.empty(0, self.warp.read_out.feature_size)
        return self.warp.read(self.parameters, self.warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))

    @torch.no_grad()
    def names(self, episode: Episode) -> Tensor:
        """Features (C, d) of the class names."""
        tasks = TaskBatch.encode([Episode.from_texts(episode.class_names, [], [])], self.warp.encoder)
        return self.warp.read_names(self.parameters, tasks.names)


@dataclass(frozen=True)
class PoolTask:
    """A drawn task, and the features of its texts before any gradient step.

    Attributes:
        draw: examples, whose unlabelled texts are the pool, and test texts.
        reader: what reads the features.
    """

    draw: Draw
    reader: Reader

    @property
    def episode(self) -> Episode:
        """Labelled texts, and the pool as its unlabelled texts."""
        return self.draw.examples.episode

    @cached_property
    def pool(self) -> Tensor:
        """(U, d) features of the unlabelled texts."""
        return self.reader(self.episode.unlabelled_texts)

    @cached_property
    def tests(self) -> Tensor:
        """(m, d) features of the test texts."""
        return self.reader(self.draw.texts)

    @cached_property
    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of the labelled texts; those of the class names if there are none."""
        if texts := self.episode.support_texts:
            return self.reader(texts).numpy(), np.asarray(self.episode.support_labels)
        names = self.reader.names(self.episode)
        return names.numpy(), np.arange(len(names))

    def read(self) -> None:
        """Read all texts, so that a fit under an init without steps finds their features."""
        self.reader([*self.episode.support_texts, *self.episode.unlabelled_texts, *self.draw.texts])
        self.reader.names(self.episode)


def metawarp(task: PoolTask, *, uses_pool: bool = True) -> Predict:
    """metawarp with the init of the task's reader."""
    examples, reader = task.draw.examples, task.reader
    if not uses_pool:
        examples = replace(examples, episode=replace(examples.episode, unlabelled=np.empty(0, dtype=np.int64)))
    fitted = Task.adapted(reader.init, reader.warp, examples)
    return lambda: fitted.predictions(task.draw.texts)[0].argmax(1)


def without_pool(task: PoolTask) -> Predict:
    """metawarp without the pool."""
    return metawarp(task, uses_pool=False)


def setfit(task: PoolTask) -> Predict:
    """SetFit with its defaults, without the pool; the class names are its texts if there are no labelled ones."""
    episode = task.episode
    if not episode.support_texts:
        episode = Episode.from_texts(episode.class_names, episode.class_names, range(episode.n_way))
    model = fitted_setfit(task.reader.backbone, 0, episode)
    return lambda: np.asarray(model.predict_proba(task.draw.texts, as_numpy=True, show_progress_bar=False)).argmax(1)


def logistic_regression(task: PoolTask) -> Predict:
    """scikit-learn's logistic regression without the pool."""
    model = LogisticRegression(C=STRENGTH, max_iter=200).fit(*task.examples)
    return lambda: model.predict(task.tests.numpy())


def self_training(task: PoolTask) -> Predict:
    """scikit-learn's self-training around a logistic regression.

    With equal weights of all texts, a few classes take the whole pool (11 % on HuffPost with one text per class), and
    with scikit-learn's threshold of 0.75 hardly any text is labelled. Classes are therefore balanced.
    """
    features, labels = task.examples
    regression = LogisticRegression(C=STRENGTH, max_iter=200, class_weight="balanced")
    share = max(len(task.pool) // ROUNDS, 1)
    model = SelfTrainingClassifier(regression, criterion="k_best", k_best=share, max_iter=ROUNDS)
    model.fit(*_with_pool(features, labels, task.pool))
    return lambda: model.predict(task.tests.numpy())


def label_spreading(task: PoolTask) -> Predict:
    """scikit-learn's label spreading with its default kernel, which is better than 15 neighbours."""
    model = LabelSpreading(max_iter=100).fit(*_with_pool(*task.examples, task.pool))
    return lambda: model.predict(task.tests.numpy())


def _with_pool(features: np.ndarray, labels: np.ndarray, pool: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labelled and unlabelled features, and labels, which are -1 for the latter."""
    return np.concatenate([features, pool.numpy()]), np.concatenate([labels, np.full(len(pool), -1)])


METHODS: dict[str, Callable[[PoolTask], Predict]] = {
    "without": without_pool,
    "metawarp": metawarp,
    "setfit": setfit,
    "logistic-regression": logistic_regression,
    "self-training": self_training,
    "label-spreading": label_spreading,
}
"""Methods by name, each of which is fitted to a task."""
