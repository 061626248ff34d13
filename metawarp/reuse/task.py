"""An adapted task: it predicts, is saved and read again, where little more than torch and transformers is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from episodes import InputError
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.shared import backbone_of
from metawarp.inits import storage
from metawarp.inits.init import Init, identity
from metawarp.model.warp import State, Warp
from metawarp.reuse.labels import Examples, text_list
from metawarp.reuse.onnx_export import export_onnx

INIT = "fitted_from"
"""Folder, in that of a saved task, of the init that it was fitted from."""

TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A model of one task, adapted.

    Attributes:
        warp: the model.
        state: "prompt" of its form's shape, "rows" (C, d), "scale", and "read_out" (P,) where that has several parts.
        classes: (C,) labels.
        class_names: what the classes are called, in the same order.
        init: what it was adapted from.
        steps: inner steps that were asked for; None: as many as the init was trained with.

    Example:
        >>> from metawarp import Task
        >>> Task.load("tasks/orders").predict(["has the courier been yet?"])  # doctest: +SKIP
        array(['delivery'], dtype='<U8')
    """

    warp: Warp
    state: State
    classes: np.ndarray
    class_names: tuple[str, ...]
    init: Init
    steps: int | None = None

    @classmethod
    def adapted(cls, init: Init, warp: Warp, examples: Examples, steps: int | None = None) -> Task:
        """A task from an init and few examples.

        Args:
            init: where it starts.
            warp: its model.
            examples: of the task.
            steps: inner steps; None: as many as the init was trained with.

        Raises:
            InputError: class names that the tokenizer does not know.
        """
        episode = examples.episode
        if examples.named:
            warp.encoder.require_known(episode.class_names)
        warp.remember(episode.support_texts)
        tasks = TaskBatch.encode([episode], warp.encoder, warp.backbone.device, named=examples.named)
        adapted = adapt(warp, init.to(warp.backbone), tasks, init.inner.with_steps(steps), init.temperature)
        state = {
            name: (tensor[0] if name in ("prompt", "rows", "scale") else tensor).detach()
            for name, tensor in adapted.items()
        }
        return cls(warp, state, np.array(examples.classes), tuple(episode.class_names), init, steps)

    def __repr__(self) -> str:
        return f"<Task of {len(self.classes)} classes on {self.warp.backbone!r}>"

    @torch.no_grad()
    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, C) of n texts, columns as `classes`; each row depends on its own text alone."""
        texts = text_list(texts)
        if not texts:
            return np.zeros((0, len(self.classes)))
        state, chunks = self.state, []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self.warp.encoder(texts[first : first + TEXTS_AT_ONCE])
            task = torch.zeros(len(batch), dtype=torch.long, device=state["prompt"].device)
            prompt, rows = state["prompt"][None], state["rows"]
            features = self.warp.features(prompt, state.get("read_out"), batch, task, rows[None])
            logits = self.warp.logits(features, rows, state["scale"])
            chunks.append(logits.double().softmax(-1).cpu().numpy())
        return np.concatenate(chunks)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most likely label of each of n texts, (n,)."""
        return self.classes[self.predict_proba(texts).argmax(1)]

    def save(self, folder: str | Path) -> None:
        """Write what is the task's own, and the init that it came from, into a folder; not the backbone.

        A prompt that no inner step moved is the init's, and is written once.

        Raises:
            InputError: the folder cannot be written, or holds something else.
        """
        config = {
            "classes": self.classes.tolist(),
            "class_names": list(self.class_names),
            "init_sha256": self.init.save(Path(folder) / INIT),
            "backbone": identity(self.warp.backbone),
            "steps": None if self.steps is None else int(self.steps),
        }
        own = dict(self.state)
        if own["prompt"].cpu().equal(self.init.to(self.warp.backbone)["prompt"].cpu()):
            del own["prompt"]
        storage.save(Path(folder), "task", own, config)

    def save_onnx(self, file: str | Path) -> None:
        """Write it as one ONNX graph, the backbone in it: token ids in, probabilities out.

        See `onnx_export`: inputs "input_ids" and "attention_mask" (texts, tokens) int64, as the tokenizer gives them
        without special tokens; output "probabilities" (texts, classes).

        Raises:
            InputError: it is not on the CPU, reads windows or has the read-out "original"; torch cannot export it; the
                file cannot be written.
            ImportError: onnx is not installed.
        """
        export_onnx(self.warp, self.state, self.classes.tolist(), Path(file))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | Backbone | None = None,
        *,
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> Task:
        """What `save` wrote.

        Args:
            folder: of the task.
            backbone: a loaded `Backbone`, or what `Backbone.load` takes; None: the one that it was fitted on.
            any_backbone: allow another one, of the same widths.
            device: where a backbone that is loaded here runs.
            dtype: of its weights and activations; states stay in float32 at least.

        Raises:
            InputError: files missing, damaged or of an unknown version; another backbone than it was fitted on.
            ImportError: "minilm" without its package, a low-rank form without PEFT.
        """
        tensors, config = storage.load(Path(folder), "task")
        init = Init.load(Path(folder) / INIT)
        try:
            classes, names, steps = config["classes"], config["class_names"], config["steps"]
            remembered = {**init.backbone, **config["backbone"]}
            held = {len(tensors["rows"]), len(names), len(classes)}
            unmoved = {"prompt": init.tensors["prompt"]}
            belongs = {*unmoved, *tensors} == {"prompt", "rows", "scale", *({"read_out"} & set(init.tensors))}
            belongs = belongs and {**unmoved, **tensors}["prompt"].shape == unmoved["prompt"].shape
            belongs = belongs and config["init_sha256"] == init.fingerprint
        except (KeyError, TypeError) as error:
            raise InputError(f"{str(folder)!r} does not hold a whole task ({error}).") from error
        if len(held) > 1:
            raise InputError(f"the rows, classes and class names in {str(folder)!r} are not of one number: {held}.")
        if not belongs:
            raise InputError(f"the task in {str(folder)!r} was not made from the init in it; fit it anew.")
        found = backbone_of(backbone, remembered["name"], device, dtype)
        warp = replace(init, backbone=remembered).bind(found, any_backbone=any_backbone)
        state = {"prompt": init.to(found)["prompt"]} | {
            name: tensor.to(found.device) for name, tensor in tensors.items()
        }
        return cls(warp, state, np.array(classes), tuple(names), init, steps)
