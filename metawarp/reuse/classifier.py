"""The scikit-learn face: a classifier from class names and a few texts, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from metawarp.backbones.backbone import Backbone
from metawarp.inits.init import Init
from metawarp.reuse.labels import Examples
from metawarp.reuse.similar import Suitability
from metawarp.reuse.starts import start_of
from metawarp.reuse.task import Task


class WarpClassifier(ClassifierMixin, BaseEstimator):
    """Few-shot text classifier on a frozen language model.

    Args:
        init: what it starts from: the folder of a learned init, an `Init`, the name of one that ships with the package,
            "owner/name" of the Hub, or "untrained": no prompt, rows mixed from names and means of sentence embeddings.
            Several of these: the one that suits the task best (see `similar`). None: "general", meta-trained on several
            domains, on the backbone that it belongs to; "untrained" on any other.
        backbone: a loaded `Backbone`, or what `Backbone.load` takes; None: the one that the init was trained on.
        steps: inner steps; None: as many as the init was trained with.
        average: of several inits, start from their mean, weighted by how they suit the task, and not from the best.
        any_backbone: allow another backbone than the init's, of the same width.
        device: where a backbone that is loaded here runs.
        dtype: of its weights and activations; states and losses stay in float32 at least.

    Attributes:
        classes_: (C,) labels, sorted, or in the order of `class_names` where that is a list.
        task_: the adapted `Task`, with the names of the classes and the init that it was fitted from.
        suitability_: of several inits, how each suits the task, by name, the best first; empty for one.

    Example:
        >>> from metawarp import WarpClassifier
        >>> few = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
        >>> model = WarpClassifier().fit(few, ["delivery", "delivery", "refund", "refund"])
        >>> model.predict(["has the courier been yet?"]).tolist()
        ['delivery']
    """

    def __init__(
        self,
        init: str | Path | Init | Sequence[str | Path | Init] | None = None,
        backbone: str | Path | Backbone | None = None,
        *,
        steps: int | None = None,
        average: bool = False,
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.init = init
        self.backbone = backbone
        self.steps = steps
        self.average = average
        self.any_backbone = any_backbone
        self.device = device
        self.dtype = dtype

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
    ) -> WarpClassifier:
        """Adapt the init to a task.

        Args:
            texts: n texts; none for a task from class names alone (zero-shot).
            labels: n labels, strings or integers.
            class_names: what the classes are called. A mapping from label to name; or a list of names, the classes
                themselves for string labels, the names of 0, 1, … for integer labels. Classes without a
                text are allowed. None: string labels are their own names; integers have none, and the rows
                come from the texts alone.

        Raises:
            InputError: fewer than 2 classes, empty or non-string texts, lengths that differ, unknown labels, class
                names that the tokenizer does not know.
        """
        examples = Examples.of(texts, labels, class_names)
        start = start_of(examples=examples, **self.get_params(deep=False))
        self.suitability_: dict[str, Suitability] = start.suitability
        return self._fitted(Task.adapted(start.init, start.warp, examples, self.steps))

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, C) of n texts, columns as `classes_`; each row depends on its own text alone."""
        return self._task().predict_proba(texts)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most likely label of each of n texts, (n,)."""
        return self._task().predict(texts)

    def save(self, folder: str | Path) -> None:
        """Write what was fitted into a folder; see `Task.save`."""
        self._task().save(folder)

    def save_onnx(self, file: str | Path) -> None:
        """Write what was fitted as one ONNX graph; see `Task.save_onnx`."""
        self._task().save_onnx(file)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | Backbone | None = None,
        *,
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> WarpClassifier:
        """A fitted classifier from what `save` wrote; it predicts, and can be fitted anew from the same init.

        The arguments and errors are those of `Task.load`, which is enough where nothing is fitted.
        """
        task = Task.load(folder, backbone, any_backbone=any_backbone, device=device, dtype=dtype)
        elsewhere = task.warp.backbone.fingerprint != task.init.backbone["fingerprint"]  # fitted with `any_backbone`
        model = cls(
            task.init,
            task.warp.backbone.name if elsewhere and backbone is None else backbone,
            steps=task.steps,
            any_backbone=any_backbone or elsewhere,
            device=device,
            dtype=dtype,
        )
        return model._fitted(task)

    def _fitted(self, task: Task) -> WarpClassifier:
        self.task_, self.classes_ = task, task.classes
        return self

    def _task(self) -> Task:
        check_is_fitted(self, "task_")
        return self.task_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
