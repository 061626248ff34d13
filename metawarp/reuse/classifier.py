"""The scikit-learn face: a classifier from class names and a few texts, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from episodes import Episode, InputError
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import Backbone
from metawarp.inits import storage
from metawarp.inits.init import Init, identity
from metawarp.model.warp import State
from metawarp.reuse.labels import classes_and_names, label_list, text_list
from metawarp.reuse.onnx_export import export_onnx
from metawarp.reuse.similar import Suitability
from metawarp.reuse.starts import Starts

INIT = "fitted_from"
"""Folder, in that of a saved task, of the init that it was fitted from."""


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
        class_names_: their names, in the same order.
        init_: the init that it was fitted from.
        suitability_: of several inits, how each suits the task, by name, the best first; empty for one.
        task_: the adapted state: "prompt" (K, d), "rows" (C, d), "scale", "read_out" (P,).

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
        texts, labels = text_list(texts), label_list(labels)
        if len(texts) != len(labels):
            raise InputError(f"fit got {len(texts)} texts and {len(labels)} labels; it needs one label for each text.")
        classes, names = classes_and_names(labels, class_names)
        number = {label: i for i, label in enumerate(classes)}
        episode = Episode.from_texts(
            names or [str(label) for label in classes], texts, [number[label] for label in labels]
        )
        self.suitability_: dict[str, Suitability] = {}
        if self.init is None or isinstance(self.init, str | Path | Init):
            init, backbone = self._starts.find(self.init)
        else:
            init, backbone, self.suitability_ = self._starts.best(self.init, episode, average=self.average)
        if self.steps and not init.inner.groups:
            raise InputError(f"steps is {self.steps}, but this init ({init.method}) has no inner loop; leave it out.")
        warp = init.bind(backbone, any_backbone=self.any_backbone)
        inner = init.inner.with_steps(self.steps)
        state = init.to(backbone)
        if names is not None:
            warp.encoder.require_known(names)
        warp.remember(texts)
        tasks = TaskBatch.encode([episode], warp.encoder, backbone.device, named=names is not None)
        adapted = adapt(warp, state, tasks, inner, init.temperature)
        self.classes_ = np.array(classes)
        self.class_names_ = tuple(names or map(str, classes))
        self.task_: State = {
            name: (tensor[0] if name in ("prompt", "rows", "scale") else tensor).detach()
            for name, tensor in adapted.items()
        }
        self.warp_ = warp
        self.init_ = init
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, C) of n texts, columns as `classes_`; each row depends on its own text alone."""
        check_is_fitted(self, "task_")
        texts = text_list(texts)
        if not texts:
            return np.zeros((0, len(self.classes_)))
        state, chunks = self.task_, []
        with torch.no_grad():
            for first in range(0, len(texts), 256):
                batch = self.warp_.encoder(texts[first : first + 256])
                task = torch.zeros(len(batch), dtype=torch.long, device=state["prompt"].device)
                prompt, rows = state["prompt"][None], state["rows"]
                features = self.warp_.features(prompt, state.get("read_out"), batch, task, rows[None])
                logits = self.warp_.logits(features, rows, state["scale"])
                chunks.append(logits.double().softmax(-1).cpu().numpy())
        return np.concatenate(chunks)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most likely label of each of n texts, (n,)."""
        best = self.predict_proba(texts).argmax(1)
        return self.classes_[best]

    def save(self, folder: str | Path) -> None:
        """Write the adapted task and the init that it came from into a folder (kilobytes), not the backbone.

        Raises:
            InputError: the folder cannot be written, or holds something else.
        """
        check_is_fitted(self, "task_")
        config = {
            "classes": self.classes_.tolist(),
            "class_names": list(self.class_names_),
            "init_sha256": self.init_.save(Path(folder) / INIT),
            "backbone": identity(self.warp_.backbone),
            "steps": None if self.steps is None else int(self.steps),
        }
        storage.save(Path(folder), "task", self.task_, config)

    def save_onnx(self, file: str | Path) -> None:
        """Write the adapted task as one ONNX graph, the backbone in it: token ids in, probabilities out.

        See `onnx_export`: inputs "input_ids" and "attention_mask" (texts, tokens) int64, as the tokenizer gives them
        without special tokens; output "probabilities" (texts, classes).

        Raises:
            InputError: a form or backbone that torch cannot export; windows; the file cannot be written.
            ImportError: onnx is not installed.
        """
        check_is_fitted(self, "task_")
        export_onnx(self.warp_, self.task_, self.classes_.tolist(), Path(file))

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

        Raises:
            InputError: files missing, damaged or of an unknown version; another backbone than it was fitted on.
        """
        tensors, config = storage.load(Path(folder), "task")
        init = Init.load(Path(folder) / INIT)
        try:
            classes, names, steps = config["classes"], config["class_names"], config["steps"]
            remembered = {**init.backbone, **config["backbone"]}
            held = {len(tensors["rows"]), len(names), len(classes)}
            kin = set(tensors) == {"prompt", "rows", "scale", *({"read_out"} & set(init.tensors))}
            kin = kin and tensors["prompt"].shape == init.tensors["prompt"].shape
            kin = kin and config["init_sha256"] == init.fingerprint
        except (KeyError, TypeError) as error:
            raise InputError(f"{str(folder)!r} does not hold a whole task ({error}).") from error
        if len(held) > 1:
            raise InputError(f"the rows, classes and class names in {str(folder)!r} are not of one number: {held}.")
        if not kin:
            raise InputError(f"the task in {str(folder)!r} was not made from the init in it; fit it anew.")
        elsewhere = remembered["fingerprint"] != init.backbone["fingerprint"]  # fitted with `any_backbone`
        model = cls(init, backbone, steps=steps, any_backbone=any_backbone or elsewhere, device=device, dtype=dtype)
        if backbone is None and elsewhere:
            model.backbone = remembered["name"]
        found = model._starts.load(remembered["name"])
        model.warp_ = replace(init, backbone=remembered).bind(found, any_backbone=any_backbone)
        model.classes_, model.class_names_, model.init_ = np.array(classes), tuple(names), init
        model.task_ = {name: tensor.to(found.device) for name, tensor in tensors.items()}
        return model

    @property
    def _starts(self) -> Starts:
        return Starts(self.backbone, self.any_backbone, self.device, self.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
