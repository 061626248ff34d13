"""The scikit-learn estimator: a classifier from class names and a few texts, in seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt
from metawarp.inits.init import Init
from metawarp.tasks.examples import UNKNOWN, Examples
from metawarp.tasks.onnx_quantization import Quantization
from metawarp.tasks.start_choice import choose_start
from metawarp.tasks.task import Task


class WarpClassifier(ClassifierMixin, BaseEstimator):
    """Few-shot text classifier on a frozen language model.

    Args:
        init: init that the classifier starts from: a folder, an `Init`, a Hub id "owner/name", or a name. "adaptive",
            the default (None), takes gradient steps on low-rank updates of the encoder. "general" takes no gradient
            steps. "untrained" is a baseline without meta-learned parameters. If none of these ships for the backbone,
            the settings and scalars of the one for MiniLM are used, with a new adapter. Of a list of inits, the one is
            used that predicts left-out examples best.
        backbone: a loaded `Backbone`, or the name of one (see `Backbone.load`); None: the one the init was trained on.
        adapt: number of gradient steps that adapt the encoder to the task. "none": no steps. "auto": the number that
            the init was trained with; if the init has a leave-one-out loss, as "adaptive" has, cross-validation on the
            examples also decides how much of the change is kept.
        any_backbone: whether a backbone is allowed that the init was not trained on; its word embeddings and features
            must have the same sizes.
        device: device of the backbone.
        dtype: data type of the backbone, such as "float32" or "bfloat16"; "auto": bfloat16 if it is at least 10 %
            faster on this machine, else float32. Learned parameters stay in float32 at least.
        prompt: text that is put before every text, such as "query: ", or the name of a prompt of the backbone, such as
            "classification". "": no prompt. None: the prompt that the init was trained with; for "adaptive",
            "general" and "untrained", the default prompt of the backbone.
        reject: probability of belonging to any of the classes below which `predict` returns `unknown`, such as 0.5;
            None: `predict` always returns a class.
        unknown: label of texts that belong to no class. Texts with this label may be given to `fit` as examples.

    Attributes:
        classes_: (C,) labels, sorted.
        task_: the adapted `Task`, with the class names and the init that it was fitted from.
        adaptation_: what the adaptation did: its steps, losses and seconds, and how much of the change was kept.
        suitability_: how each of several inits suits the task, by name, best first; empty for a single init.

    Example:
        >>> from metawarp import WarpClassifier
        >>> texts = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
        >>> classifier = WarpClassifier().fit(texts, ["delivery", "delivery", "refund", "refund"])
        >>> classifier.predict(["has the courier been yet?"]).tolist()
        ['delivery']
    """

    def __init__(
        self,
        init: str | Path | Init | Sequence[str | Path | Init] | None = None,
        backbone: str | Path | Backbone | None = None,
        *,
        adapt: Adapt = "auto",
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
        prompt: str | None = None,
        reject: float | None = None,
        unknown: Any = UNKNOWN,
    ) -> None:
        self.init = init
        self.backbone = backbone
        self.adapt: Adapt = adapt
        self.any_backbone = any_backbone
        self.device = device
        self.dtype = dtype
        self.prompt = prompt
        self.reject = reject
        self.unknown = unknown

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
        unlabelled: Sequence[str] | None = None,
    ) -> Self:
        """Learn a classifier for a task from the init.

        Args:
            texts: n texts; none for a task from class names alone (zero-shot).
            labels: n labels: strings, integers, booleans, whole floats, or members of one str or int enum. Texts with
                the label `unknown` are examples of texts that belong to no class.
            class_names: a mapping from label to name; or a list, which holds the classes themselves for string labels,
                and the names of 0, 1, … for integer labels. Classes without a text are allowed. None: strings are their
                own names, and members of an int enum have theirs; other labels have no names, and the texts alone are
                used. "none": no label has a name. Names are read as words (`playMusic` as "play music"), and those that
                say nothing, such as `LABEL_3`, are not read.
            unlabelled: further texts, most of which belong to one of the classes. Predictions depend on the text and
                the fitted task alone. Copies, labelled texts and texts without content are dropped, which is logged. A
                warning is logged if most of the texts are unlike the labelled ones, or none seems to be of some class.

        Raises:
            InputError: fewer than 2 classes, empty texts, missing labels or labels of several types, different numbers
                of texts and labels, labels that are not in `class_names`, or class names that the tokenizer does not
                know.
        """
        examples = Examples.of(texts, labels, class_names, unlabelled, self.unknown)
        init, warp, suitability = choose_start(
            self.init,
            examples,
            self.backbone,
            any_backbone=self.any_backbone,
            device=self.device,
            dtype=self.dtype,
            prompt=self.prompt,
            adapt=self.adapt,
        )
        task = Task.adapted(init, warp, examples, self.adapt, self.reject)
        self._take(task)  # interrupted, the estimator stays as it was
        self.suitability_ = suitability
        return self

    def _take(self, task: Task) -> None:
        self.task_, self.classes_, self.adaptation_ = task, task.classes, task.adaptation

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, C) of n texts, columns as `classes_`; each row depends on its own text alone.

        A text without content, such as "", has the same probability for every class.
        """
        return self._fitted_task().predict_proba(texts)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most likely label (n,) of each of n texts; `unknown` where `known_proba` is below `reject`."""
        return self._fitted_task().predict(texts)

    def known_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probability (n,) that each of n texts belongs to any of the classes; 0 for a text without content.

        InputError if the init has not learned to recognize unknown texts, as those of earlier releases.
        """
        return self._fitted_task().known_proba(texts)

    def score(self, X: Sequence[str], y: Sequence[Any], sample_weight: Any = None) -> float:
        """Accuracy on n texts and their labels, with a weight for each of them."""
        right = [one == other for one, other in zip(self.predict(X), y, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def save(self, folder: str | Path, *, overwrite: bool = True) -> None:
        """Write the fitted task into a folder; see `Task.save`."""
        self._fitted_task().save(folder, overwrite=overwrite)

    def save_onnx(self, file: str | Path, *, quantize: Quantization | None = None) -> None:
        """Write the fitted task as one ONNX graph; see `Task.save_onnx`."""
        self._fitted_task().save_onnx(file, quantize=quantize)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | Backbone | None = None,
        *,
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> Self:
        """A fitted classifier from a folder that `save` wrote; it can also be fitted again from the same init.

        The arguments and errors are those of `Task.load`, which is enough for prediction.
        """
        task = Task.load(folder, backbone, any_backbone=any_backbone, device=device, dtype=dtype)
        on_another = task.warp.backbone.fingerprint != task.init.backbone.fingerprint  # fitted with any_backbone=True
        name = task.warp.backbone.name if on_another and backbone is None else backbone
        settings: dict[str, Any] = {"adapt": task.adapt, "reject": task.reject, "unknown": task.unknown}
        classifier = cls(task.init, name, device=device, dtype=dtype, **settings)
        classifier.any_backbone = any_backbone or on_another
        classifier._take(task)
        return classifier

    def _fitted_task(self) -> Task:
        check_is_fitted(self, "task_")
        return self.task_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
