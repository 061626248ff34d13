"""An adapted task: it predicts, and is saved and loaded, with little more than torch and transformers installed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from episodes import InputError
from episodes.cleaning import is_blank
from episodes.paths import user_path
from episodes.schemas import parsed
from metawarp.adaptation.adapt import adapt as adapted_tasks
from metawarp.adapters.adapter import adapter_shape
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.store import BACKBONES, BackboneStore
from metawarp.config import Adapt
from metawarp.inits import storage
from metawarp.inits.file import BackboneIdentity
from metawarp.inits.init import Init
from metawarp.output_folder import new_version, read_whole
from metawarp.parameters import TaskParameters, mapped, task_shapes, tensors_of
from metawarp.tasks.adaptation import Adaptation
from metawarp.tasks.examples import UNKNOWN, Examples, list_of_texts
from metawarp.tasks.file import INIT_FOLDER, TASK_FILES, TaskFile, require_probability
from metawarp.tasks.labels import label_array, loaded_labels, stored_label, stored_labels, with_unknown
from metawarp.tasks.onnx_export import export_onnx
from metawarp.tasks.onnx_quantization import Quantization
from metawarp.tasks.pool_warnings import pool_record, warn_about_pool
from metawarp.tasks.prediction import predictions
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

TEXTS_AT_ONCE = 2048
"""Number of texts that are sorted by length together; more of them leave less padding in the forward passes."""


NOT_LEARNED = "its init has not learned it; fit from an init of this release, such as 'adaptive' or 'general'"
"""Why a task does not recognize unknown texts, and what to do."""


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A fitted classifier, as `WarpClassifier.save` writes it: it predicts, but cannot be fitted again.

    Attributes:
        warp: the model.
        parameters: parameters of this one task (T = 1).
        classes: (C,) labels.
        class_names: names of the classes, in the same order.
        init: init that it was adapted from.
        adapt: how it was adapted; see `WarpClassifier`.
        adaptation: what the adaptation did; None for a task of an earlier release.
        reject: probability of being known below which `predict` calls a text unknown; None: no text is.
        unknown: label of unknown texts.
    """

    warp: Warp
    parameters: TaskParameters
    classes: np.ndarray
    class_names: tuple[str, ...]
    init: Init
    adapt: Adapt = "auto"
    adaptation: Adaptation | None = None
    reject: float | None = None
    unknown: Any = UNKNOWN

    @classmethod
    def adapted(
        cls, init: Init, warp: Warp, examples: Examples, adapt: Adapt = "auto", reject: float | None = None
    ) -> Self:
        """A task adapted from an init to examples, as `Init.inner_loop` says; `warp` is the init's model.

        InputError if the tokenizer does not know the class names.
        """
        require_probability(reject)
        episode = examples.episode
        warp.encoder.require_known(episode.class_words)
        warp.warn_about_truncation(episode.support_texts)
        tasks = TaskBatch.encode([episode], warp.encoder, warp.backbone.device)
        inner, chooses = init.inner_loop(adapt), init.chooses(adapt)
        adapted = adapted_tasks(
            warp, init.on(warp.backbone), tasks, inner, init.temperature, chooses=chooses, progress=True
        )
        parameters, record = mapped(adapted.parameters, Tensor.detach), Adaptation.of(adapted, adapt)
        if init.recognition is not None:
            n_classes = len(examples.classes)
            parameters = init.recognition.of(warp, parameters, tasks, adapted.examples, n_classes)
        if parameters.recognition is None and examples.has_unknown:
            problem = f"The label {examples.unknown!r} needs a task that recognizes unknown texts"
            raise InputError(f"{problem}: {NOT_LEARNED}.")
        if not all(tensor.isfinite().all() for tensor in tensors_of(parameters).values()):
            raise InputError("The fitted parameters are not finite numbers: the init is damaged; use another one.")
        classes, names = label_array(examples.classes), tuple(episode.class_names[: len(examples.classes)])
        if adapted.examples.unlabelled is not None:
            warn_about_pool(pool_record(warp, init, tasks, adapted.examples), names)
        task = cls(warp, parameters, classes, names, init, adapt, record, unknown=examples.unknown)
        return task.rejecting(reject)

    def __repr__(self) -> str:
        return f"<Task of {len(self.classes)} classes on {self.warp.backbone!r}>"

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, C) of n texts, columns as `classes`; each row depends on its own text alone.

        A text without content, such as "", has the same probability for every class.
        """
        return self.predictions(texts)[0]

    def known_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probability (n,) that each of n texts belongs to any of the classes; 0 for a text without content.

        InputError if the init of the task has not learned to recognize unknown texts.
        """
        if self.parameters.recognition is None:
            raise InputError(f"This task does not recognize unknown texts: {NOT_LEARNED}.")
        return self.predictions(texts)[1]

    def rejecting(self, reject: float | None) -> Self:
        """The same task with another probability of being known below which it calls a text unknown.

        InputError if it is no probability, or the task does not recognize unknown texts.
        """
        require_probability(reject)
        if reject is not None and self.parameters.recognition is None:
            raise InputError(f"reject={reject} needs a task that recognizes unknown texts: {NOT_LEARNED}.")
        return replace(self, reject=reject)

    @torch.no_grad()
    def predictions(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n, C) of the classes, and that (n,) of being known, 1 for a task that does not recognize
        unknown texts."""
        texts = list_of_texts(texts, blanks=True)
        probabilities = np.full((len(texts), len(self.classes)), 1 / len(self.classes))
        known = np.zeros(len(texts))
        rows = [row for row, text in enumerate(texts) if not is_blank(text)]
        for first in range(0, len(rows), TEXTS_AT_ONCE):
            chosen = rows[first : first + TEXTS_AT_ONCE]
            batch = self.warp.encoder([texts[row] for row in chosen])
            task = torch.zeros(len(batch), dtype=torch.long, device=self.parameters.scale.device)
            features = self.warp.read(self.parameters, batch, task)
            of_classes, is_known = predictions(self.warp, self.parameters, features, len(self.classes))
            probabilities[chosen] = of_classes.cpu().numpy()
            known[chosen] = 1.0 if is_known is None else is_known.cpu().numpy()
        return probabilities, known

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most likely label (n,) of each of n texts; `unknown` where `reject` says so."""
        return self.labels(*self.predictions(texts))

    def labels(self, probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The labels (n,) of n texts, from their probabilities (n, C) and those (n,) of being known."""
        best = probabilities.argmax(1)
        if self.reject is None:
            return self.classes[best]
        return with_unknown(self.classes, self.unknown)[np.where(known < self.reject, len(self.classes), best)]

    def save(self, folder: str | Path, *, overwrite: bool = True) -> None:
        """Write the task and the init that it was fitted from into a folder, without the backbone.

        InputError if the folder cannot be written, or holds something else, or a task that may not be overwritten.
        """
        folder, labels = user_path(folder), stored_labels(self.classes)
        with new_version(folder, "task", TASK_FILES, overwrite=overwrite) as part:
            storage.save(part, "task", *self._stored(labels, self.init.write(part / INIT_FOLDER)))

    def _stored(self, labels: dict[str, Any], init_sha256: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What is saved: tensors and config."""
        config = {
            **labels,
            "class_names": list(self.class_names),
            "init_sha256": init_sha256,
            "backbone": asdict(BackboneIdentity.of(self.warp.backbone)),
            "adapt": self.adapt if isinstance(self.adapt, str) else int(self.adapt),
            "adaptation": self.adaptation and asdict(self.adaptation),
            "has_unknown": self.parameters.class_embeddings.shape[1] > len(self.classes),
            "reject": self.reject,
            "unknown": stored_label(self.unknown),
        }
        tensors = tensors_of(self.parameters)
        # An adapter that no inner step updated is the init's, and is written once.
        if torch.equal(tensors["adapter"][0], self.init.on(self.warp.backbone).adapter):
            del tensors["adapter"]
        return tensors, config

    def save_onnx(self, file: str | Path, *, quantize: Quantization | None = None) -> None:
        """Write the task as one ONNX graph that contains the backbone: token ids in, probabilities out.

        Args:
            file: file of the graph.
            quantize: "int8" for weights in 8 bits: less than a third of the size, faster, and slightly less accurate;
                None: as the backbone has them.

        Inputs are "input_ids" and "attention_mask" (texts, tokens) int64, as the tokenizer gives them without special
        tokens; the outputs are "probabilities" (texts, classes) and, for a task that recognizes unknown texts, "known"
        (texts,). Errors are those of `export_onnx`.
        """
        export_onnx(self.warp, self.parameters, stored_labels(self.classes)["classes"], user_path(file), quantize)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | Backbone | None = None,
        *,
        any_backbone: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
        cache: FeatureCache | None = None,
        store: BackboneStore = BACKBONES,
    ) -> Self:
        """The task that `save` wrote.

        Args:
            folder: folder of the task.
            backbone: a loaded backbone, or the name of one (see `Backbone.load`); None: the one it was fitted on.
            any_backbone: whether a backbone is allowed that the init was not trained on; its word embeddings and
                features must have the same sizes.
            device: device of the backbone.
            dtype: data type of the backbone; learned parameters stay in float32 at least.
            cache: cache for features of texts that are predicted again; None: nothing is kept.
            store: store of loaded backbones.

        Raises:
            InputError: files are missing, damaged or of an unknown version, or the backbone is another one.
            ImportError: "minilm" without its package.
        """
        path = user_path(folder)
        (tensors, config), init = read_whole(path, lambda: (storage.load(path, "task"), Init.load(path / INIT_FOLDER)))
        file = parsed(TaskFile, config, f"config.json in {str(folder)!r}")
        classes, names, own = loaded_labels(file.classes, file.label_type), tuple(file.class_names), file.backbone
        if file.init_sha256 != init.fingerprint or len(classes) != len(names):
            raise InputError(f"The task in {str(folder)!r} does not belong to the init in it; fit it again.")
        loaded = store.get(backbone or own.name, device=device, dtype=dtype)
        loaded = loaded if isinstance(backbone, Backbone) else own.with_its_prompt(loaded)
        warp = replace(init, backbone=own).bind(loaded, any_backbone=any_backbone, cache=cache)
        tensors = {"adapter": init.on(loaded).adapter[None], **tensors}
        sizes, recognizes = (warp.read_out.feature_size, warp.class_embedding_size), "recognition" in tensors
        of_task = {"has_unknown": file.has_unknown, "recognizes": recognizes}
        shapes = task_shapes(warp.config, adapter_shape(warp.adapter), len(names), sizes, **of_task)
        storage.require_shapes(tensors, shapes, f"task.safetensors in {str(folder)!r}")
        parameters = mapped(TaskParameters(**tensors), lambda tensor: tensor.to(loaded.device))
        settings = file.adapt_of_any_release, file.adaptation, file.reject, file.unknown
        return cls(warp, parameters, classes, names, init, *settings)
