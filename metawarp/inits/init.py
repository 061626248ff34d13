"""The init: what meta-training learns and a new task starts from, kilobytes in one folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch

from episodes import InputError
from episodes.errors import nearest
from episodes.paths import is_there, user_path
from episodes.schemas import parsed
from metawarp.adaptation.recognition import Recognition
from metawarp.adaptation.temperature import Temperature
from metawarp.adapters.adapter import adapter_shape
from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt, InnerLearningRates, InnerLoop, WarpConfig
from metawarp.inits import storage
from metawarp.inits.file import CHECKPOINT, INIT_FILES, BackboneIdentity, InitFile
from metawarp.inits.fresh import fresh_parameters
from metawarp.inits.hub import download_init, hub_header, is_hub_id, upload_init
from metawarp.inits.model_card import model_card, read_results
from metawarp.inits.shipped import shipped_inits
from metawarp.output_folder import new_version, read_whole
from metawarp.parameters import LEARNING_RATES, InitParameters, init_shapes, mapped, tensors_of
from metawarp.texts.feature_cache import FeatureCache
from metawarp.verbalizers.table import VERBALIZERS
from metawarp.warp import Warp


@dataclass(frozen=True, eq=False, repr=False)
class Init:
    """A learned (or fresh) initialization.

    Attributes:
        parameters: the learned numbers.
        config: settings of the model.
        inner: how a task is adapted.
        method: method that learned it; "none" for a fresh init.
        backbone: backbone that it belongs to.
        training: record of the training: corpora, settings, seeds, validation accuracy.
        temperature: divisor of the logits of an adapted task, so that probabilities are calibrated.
        recognition: how an adapted task recognizes texts that belong to no class; None: it does not.
        fingerprint: sha256 of the stored tensors; "" before it is saved.
    """

    parameters: InitParameters
    config: WarpConfig
    inner: InnerLoop
    method: str
    backbone: BackboneIdentity
    training: Mapping[str, Any] = field(default_factory=dict)
    temperature: Temperature = Temperature()
    recognition: Recognition | None = None
    fingerprint: str = ""

    @classmethod
    def start(
        cls,
        warp: Warp,
        inner: InnerLoop,
        *,
        method: str = "none",
        seed: int = 0,
        rates: InnerLearningRates | None = None,
        use_words: bool = True,
    ) -> Self:
        """A fresh init, from which meta-training starts.

        Args:
            warp: the model.
            inner: how tasks are going to be adapted.
            method: method that is going to learn it.
            seed: seed of random starts.
            rates: inner learning rates to start from.
            use_words: whether soft tokens for which the template gives words start from these words.
        """
        parameters = fresh_parameters(warp, inner, rates or InnerLearningRates(), seed, use_words)
        return cls(parameters, warp.config, inner, method, BackboneIdentity.of(warp.backbone))

    def __repr__(self) -> str:
        return f"<Init by {self.method!r}: {self.n_numbers:,} numbers for backbone {self.backbone.name!r}>"

    @property
    def n_numbers(self) -> int:
        """Number of learned numbers."""
        return sum(tensor.numel() for tensor in tensors_of(self.parameters).values())

    def inner_loop(self, adapt: Adapt) -> InnerLoop:
        """How a task is adapted: "auto" as this init was trained to, "none" without steps, or in a number of steps.

        InputError for another value, or steps for an init that was trained without any.
        """
        if adapt == "auto":
            return self.inner
        if isinstance(adapt, bool | str) and adapt != "none":
            raise InputError(f"adapt={adapt!r} must be 'auto', 'none' or a number of steps.")
        steps = 0 if adapt == "none" else int(adapt)
        if steps > 0 and not self.inner.updates:
            method = f"an init learned by {self.method!r}, which has no inner loop"
            raise InputError(f"adapt={adapt} cannot be used with {method}; leave it out.")
        if steps < 0:
            raise InputError(f"adapt={adapt} must be at least 0.")
        return self.inner.with_steps(steps)

    def chooses(self, adapt: Adapt) -> bool:
        """Whether each task finds its own temperature and how much of the change of its steps it keeps: without steps,
        and with adapt="auto" and an inner loop that leaves one out."""
        inner = self.inner_loop(adapt)
        return inner.inner_steps == 0 or (adapt == "auto" and inner.leaves_one_out and bool(inner.moving))

    def on(self, backbone: Backbone) -> InitParameters:
        """The parameters on the backbone's device, in float32 or the backbone's data type if that is wider."""
        return mapped(self.parameters, lambda tensor: tensor.to(backbone.device, backbone.parameter_dtype))

    def bind(self, backbone: Backbone, *, any_backbone: bool = False, cache: FeatureCache | None = None) -> Warp:
        """The model of this init; InputError if it does not fit the backbone.

        Args:
            backbone: the backbone that the init was trained on.
            any_backbone: whether another backbone of the same widths is allowed.
            cache: cache of the model.
        """
        own, given = self.backbone, BackboneIdentity.of(backbone)
        for size in ("embedding_size", "feature_size"):
            needed, width = getattr(own, size), getattr(given, size)
            if needed != width:
                raise InputError(f"This init needs {size} {needed}, but {given.name!r} has {width}; load {own.name!r}.")
        if own.fingerprint != given.fingerprint and not any_backbone:
            trained, not_on = (f"{one.name!r} ({one.fingerprint})" for one in (own, given))
            advice = "load that one, or allow another with any_backbone=True"
            raise InputError(f"This init was trained on backbone {trained}, not on {not_on}; {advice}.")
        if own.prompt != given.prompt and not any_backbone:
            trained = f"This init was trained with the prompt {own.prompt!r} before every text"
            raise InputError(f"{trained}, but the backbone has {given.prompt!r}; load it with prompt={own.prompt!r}.")
        warp = Warp(backbone, self.config, cache)
        shape, needed = tuple(self.parameters.adapter.shape), adapter_shape(warp.adapter)
        if shape != needed:
            settings = f"adapter={self.config.adapter!r} and template={self.config.template!r}"
            raise InputError(f"The adapter has the shape {shape}, but {settings} need {needed} on this backbone.")
        rates, n_parts = self.parameters.log_adapter_lr, len(warp.adapter.shapes)
        if rates is not None and rates.dim() == 2 and rates.shape[1] != n_parts:
            problem = f"This init has learning rates for {rates.shape[1]} parts of its adapter"
            raise InputError(f"{problem}, but {self.config.adapter!r} has {n_parts}; train it again.")
        return warp

    def continuing(self, other: Self) -> Self:
        """This init with the numbers of another one, where that one has them in the same shape; steps of the inner loop
        that the other one lacks keep their start.

        InputError if the two belong to different backbones, or their adapters differ.
        """
        if (self.backbone.fingerprint, self.backbone.prompt) != (other.backbone.fingerprint, other.backbone.prompt):
            ours, theirs = (f"{one.name!r} (prompt {one.prompt!r})" for one in (self.backbone, other.backbone))
            raise InputError(f"The start was trained on backbone {theirs}, not on {ours}; choose another start.")
        own, given = tensors_of(self.parameters), tensors_of(other.parameters)
        if own["adapter"].shape != given["adapter"].shape:
            adapters = f"adapter={self.config.adapter!r} of size {self.config.adapter_size}"
            problem = f"The adapter of the start has {given['adapter'].numel()} numbers, but {adapters} has"
            raise InputError(f"{problem} {own['adapter'].numel()}; use the model settings of the start.")
        kept = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
        return replace(self, parameters=replace(self.parameters, **kept))

    def save(self, folder: str | Path) -> str:
        """Write init.safetensors, config.json and a model card; returns the sha256 of the tensors.

        InputError if the folder cannot be written, holds something else, or the checkpoint of a training, which would
        not belong to this init.
        """
        folder = user_path(folder)
        if (folder / CHECKPOINT).exists():
            raise InputError(
                f"{str(folder)!r} is the folder of a training ({CHECKPOINT}); save the init to another one."
            )
        with new_version(folder, "init", INIT_FILES) as part:
            return self.write(part)

    def write(self, folder: Path) -> str:
        """Write the files of `save` into a folder that nobody reads yet; returns the sha256 of the tensors."""
        return storage.save(folder, "init", tensors_of(self.parameters), self._config(), card=self._card())

    def push_to_hub(
        self,
        name: str,
        *,
        license: str = "apache-2.0",
        results: Mapping[str, Any] | str | Path | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Upload the init with a model card to the Hub; returns the address. InputError if it cannot be uploaded.

        Args:
            name: Hub id "owner/name"; the repository is created if it is missing.
            license: license of the init, as the Hub abbreviates it.
            results: results for the card: what `evaluate` returned, or the results.json that it wrote.
            private: whether a new repository is private.
            token: access token of the Hub; None: that of `hf auth login`.
        """
        if isinstance(results, str | Path):
            results = read_results(results)
        with TemporaryDirectory() as folder:
            card = hub_header(self._config(), license) + self._card(results, name)
            storage.save(Path(folder), "init", tensors_of(self.parameters), self._config(), card=card)
            return upload_init(Path(folder), name, private=private, token=token)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """An init by name; InputError as in `load`, if the name is ambiguous, or if the Hub does not provide it.

        Args:
            name: name of a shipped init, a folder, or a Hub id "owner/name", looked up in this order.
            revision: branch, tag or commit on the Hub.
        """
        if own := shipped_inits().get(str(name)):
            if (Path(name) / "config.json").exists():
                problem = f"init={str(name)!r} ships with metawarp and is a folder here"
                raise InputError(f"{problem}; write './{name}' for the folder.")
            return cls.load(own)
        if is_there(user_path(name)):
            return cls.load(name)
        if is_hub_id(str(name)):
            return cls.load(download_init(str(name), revision))
        problem = f"init={str(name)!r} is no folder here, and no init of this name ships with metawarp"
        raise InputError(f"{problem}{nearest(str(name), shipped_inits())}; `metawarp inits` lists those that do.")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """An init from its folder; InputError if files are missing, damaged or of an unknown format version."""
        path = user_path(folder)
        tensors, config = read_whole(path, lambda: storage.load(path, "init"))
        file = parsed(InitFile, config, f"config.json in {str(folder)!r}")
        verbalizer = VERBALIZERS[file.model.verbalizer]
        missing = {name: torch.tensor(value) for name, value in verbalizer.scalars_of_older_inits.items()}
        tensors = {**missing, **tensors}
        rates = tensors.get(LEARNING_RATES["adapter"])
        n_parts = rates.shape[-1] if rates is not None and rates.dim() else 0
        shapes = init_shapes(file.model, file.inner, verbalizer.scalars, n_parts=n_parts)
        # The shape of the adapter depends on the backbone: see `bind`.
        storage.require_shapes(tensors, {"adapter": None, **shapes}, f"init.safetensors in {str(folder)!r}")
        learned = InitParameters(**tensors), file.model, file.inner, file.method
        return cls(*learned, file.backbone, file.training, file.temperature, file.recognition, file.sha256)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "backbone": asdict(self.backbone),
            "model": asdict(self.config),
            "inner": asdict(self.inner),
        }
        config |= {"method": self.method, "training": dict(self.training), "temperature": asdict(self.temperature)}
        config["recognition"] = self.recognition and asdict(self.recognition)
        return config

    def _card(self, results: Mapping[str, Any] | None = None, name: str | None = None) -> str:
        return model_card(self._config(), self.n_numbers, results, name)
