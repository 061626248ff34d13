"""The classifier of the init `general`, fitted to features instead of texts, which takes milliseconds."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.labelling.problems import Problem
from metawarp.adaptation.start import ExampleFeatures, class_embeddings_of
from metawarp.inits.init import Init
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


class FeatureClassifier:
    """A regression over the class names and the labelled texts of a pool, and over other texts without their labels.

    `predict_proba` and `embed` are what small-text asks of a classifier.
    """

    def __init__(
        self, init: Init, warp: Warp, problem: Problem, labelled: np.ndarray, unlabelled: Sequence[int] | None = None
    ) -> None:
        n_classes, labels = problem.n_classes, problem.labels[labelled]
        shots = torch.tensor(np.bincount(labels, minlength=n_classes)[None], dtype=torch.float32)
        others = _texts(np.zeros(0 if unlabelled is None else len(unlabelled)))
        none, ways = _texts([]), torch.tensor([n_classes])
        names = _texts(np.arange(n_classes))
        tasks = TaskBatch(names, _texts(labels), none, others, ways, shots, torch.full((1, n_classes), -1))
        support = problem.pool[labelled] if len(labelled) else None
        more = None if unlabelled is None else problem.pool[unlabelled]
        parameters = init.on(warp.backbone)
        with torch.no_grad():
            examples = ExampleFeatures(problem.names, support, more)
            self._embeddings = class_embeddings_of(warp, parameters, tasks, examples)[0]
        self._verbalizer, self._scale = warp.verbalizer, parameters.log_scale.exp()

    @torch.no_grad()
    def predict_proba(self, features: Tensor | np.ndarray) -> np.ndarray:
        """Class probabilities (N, C) from features (N, d)."""
        return self._verbalizer.logits(torch.as_tensor(features), self._embeddings, self._scale).softmax(-1).numpy()

    def embed(
        self, features: np.ndarray, return_proba: bool = False, pbar: object = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The features themselves, with class probabilities on request."""
        return (features, self.predict_proba(features)) if return_proba else features

    def accuracy(self, problem: Problem) -> float:
        """Accuracy in percent on the test texts."""
        return 100 * float(np.mean(self.predict_proba(problem.tests).argmax(1) == problem.truth))


def _texts(labels: Sequence[int] | np.ndarray) -> LabelledTexts:
    """Texts of one task by their labels alone; the features are passed beside them."""
    label = torch.as_tensor(np.asarray(labels), dtype=torch.long)
    return LabelledTexts(None, torch.zeros_like(label), label)
