"""The init: what meta-training learns and a new task starts from. A few thousand numbers in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from episodes import InputError
from metawarp.adaptation.inner_loop import RATES, InnerLoop, InnerRates
from metawarp.adaptation.temperature import Temperature
from metawarp.backbones.backbone import Backbone
from metawarp.inits import storage
from metawarp.inits.hub import downloaded, hub_header, is_hub_id, upload
from metawarp.inits.model_card import model_card, read_results
from metawarp.inits.shipped import shipped
from metawarp.inits.start import fresh_tensors, tensor_names
from metawarp.model.config import WarpConfig
from metawarp.model.warp import State, Warp


@dataclass(frozen=True, eq=False, repr=False)
class Init:
    """A learned (or fresh) initialization.

    Attributes:
        tensors: "prompt", of its form's shape, (K, d) for soft tokens at the input; "log_scale" of the logits;
            "log_inner_lr.<group>" (S,) natural logarithms of the inner learning rates; "name_weight" where rows are
            mixed; "log_strength" and "log_name_count" where they are fitted by regression; "read_out" (P,), logits of
            the weights of a read-out of several parts.
        warp: template, read-out and recipe.
        inner: how a task is adapted from here.
        method: what learned it ("none" for a fresh one).
        backbone: name, fingerprint and sizes of the backbone that it belongs to.
        training: what is worth knowing of the training: corpora, steps, seeds, validation accuracy.
        temperature: logits of an adapted task are divided by it, so that probabilities mean what they say.
        fingerprint: sha256 of the stored tensors, "" before it was stored.
    """

    tensors: State
    warp: WarpConfig
    inner: InnerLoop
    method: str
    backbone: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    temperature: Temperature = Temperature()
    fingerprint: str = ""

    @classmethod
    def start(
        cls,
        warp: Warp,
        inner: InnerLoop,
        *,
        method: str = "none",
        seed: int = 0,
        rates: InnerRates | None = None,
        words: bool = True,
    ) -> Init:
        """A fresh init, as meta-training starts from.

        Args:
            warp: the model it is for.
            inner: its inner loop.
            method: what is going to learn it.
            seed: of the prompt starts "vocabulary" and "normal".
            rates: initial inner learning rate of each group.
            words: whether soft tokens that the template gives words start from them.
        """
        tensors = fresh_tensors(warp, inner, rates or InnerRates(), seed, words)
        return cls(tensors, warp.config, inner, method, identity(warp.backbone))

    def __repr__(self) -> str:
        numbers = sum(tensor.numel() for tensor in self.tensors.values())
        return f"<Init by {self.method!r}: {numbers:,} numbers for backbone {self.backbone['name']!r}>"

    def save(self, folder: str | Path) -> str:
        """Write init.safetensors, config.json and a model card; returns the sha256 of the tensors.

        Raises:
            InputError: the folder cannot be written, or holds a config.json or README.md of something else.
        """
        return storage.save(Path(folder), "init", self.tensors, self._config(), card=self._card())

    def _config(self) -> dict[str, Any]:
        return {
            "backbone": dict(self.backbone),
            "warp": asdict(self.warp),
            "inner": asdict(self.inner),
            "method": self.method,
            "training": dict(self.training),
            "temperature": asdict(self.temperature),
        }

    def _card(self, results: Mapping[str, Any] | None = None, name: str | None = None) -> str:
        return model_card(self._config(), sum(tensor.numel() for tensor in self.tensors.values()), results, name)

    def push_to_hub(
        self,
        name: str,
        *,
        license: str = "apache-2.0",
        results: Mapping[str, Any] | str | Path | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Put the init into a repository of the Hub, with a card that says what it is; returns the address.

        Args:
            name: "owner/name"; made where it is missing.
            license: that the init is given away under, as the Hub abbreviates it.
            results: for the card, what `evaluate` returned of it, or the results.json that it wrote.
            private: whether a new repository is.
            token: of the Hub; None: that of `hf auth login`.

        Raises:
            InputError: the name is no Hub id, the results cannot be read, or the Hub refuses.
        """
        if isinstance(results, str | Path):
            results = read_results(results)
        with TemporaryDirectory() as folder:
            card = hub_header(self._config(), license) + self._card(results, name)
            storage.save(Path(folder), "init", self.tensors, self._config(), card=card)
            return upload(Path(folder), name, private=private, token=token)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Init:
        """An init from wherever it is.

        Args:
            name: of one that ships with the package (see `shipped`), of a folder, or of the Hub, "owner/name"; in this
                order.
            revision: of the Hub: branch, tag or commit.

        Raises:
            InputError: see `load`; a folder of a shipped one's name; the Hub does not hand it out.
        """
        if own := shipped().get(str(name)):
            if (Path(name) / "config.json").exists():
                raise InputError(f"{str(name)!r} ships with metawarp, and is a folder here; say './{name}' for it.")
            return cls.load(own)
        there = Path(name).exists() or not is_hub_id(str(name))
        return cls.load(name if there else downloaded(str(name), revision))

    @classmethod
    def load(cls, folder: str | Path) -> Init:
        """Read an init from its folder.

        Raises:
            InputError: files missing, damaged, of an unknown format version, or not fitting their own config.
        """
        tensors, config = storage.load(Path(folder), "init")
        try:
            inner = InnerLoop(**{**config["inner"], "groups": tuple(config["inner"]["groups"])})
            init = cls(
                tensors,
                WarpConfig(**config["warp"]),
                inner,
                config["method"],
                {key: config["backbone"][key] for key in ("name", "fingerprint", "embedding_size", "feature_size")},
                config["training"],
                Temperature(**config["temperature"]),
                config["sha256"],
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"config.json in {str(folder)!r} does not describe an init ({error}).") from error
        expected = tensor_names(init.warp, inner)
        if set(tensors) != expected:
            raise InputError(
                f"init.safetensors in {str(folder)!r} holds {sorted(tensors)}; its config needs {sorted(expected)}."
            )
        for name, tensor in tensors.items():
            if name == "prompt":
                continue  # its shape is the backbone's to know: see `bind`
            shape = (inner.steps,) if name.startswith(RATES) else ()
            if name == "read_out":
                shape = (len(init.warp.parts),)
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{name} in {str(folder)!r} has the shape {tuple(tensor.shape)}; its config needs {shape}."
                )
        return init

    def bind(self, backbone: Backbone, *, any_backbone: bool = False) -> Warp:
        """The model that this init is for.

        Args:
            backbone: it must be the one that the init was trained on.
            any_backbone: allow another one of the same widths.

        Raises:
            InputError: another backbone, or one of another width; the template does not fit.
        """
        remembered, found = self.backbone, identity(backbone)
        for size in ("embedding_size", "feature_size"):
            if remembered[size] != found[size]:
                raise InputError(
                    f"this init belongs to the {size} {remembered[size]}; backbone {backbone.name!r} has "
                    f"{found[size]}: load {remembered['name']!r}."
                )
        if remembered["fingerprint"] != backbone.fingerprint and not any_backbone:
            raise InputError(
                f"this init was trained on backbone {remembered['name']!r} ({remembered['fingerprint']}), not on "
                f"{backbone.name!r} ({backbone.fingerprint}); load that one, or allow another with --any-backbone "
                "(any_backbone=True)."
            )
        warp = Warp(backbone, self.warp)
        shape = tuple(self.tensors["prompt"].shape)
        if shape != warp.form.shape:
            raise InputError(
                f"this init's prompt has the shape {shape}; with form {self.warp.form!r} and template "
                f"{self.warp.template!r} it is {warp.form.shape} on this backbone."
            )
        return warp

    def to(self, backbone: Backbone) -> State:
        """Its tensors where the backbone is, in fp32 or the backbone's own dtype where that is wider."""
        dtype = torch.promote_types(torch.float32, backbone.dtype)
        return {name: tensor.to(backbone.device, dtype) for name, tensor in self.tensors.items()}


def identity(backbone: Backbone) -> dict[str, Any]:
    """What an init remembers of its backbone."""
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "embedding_size": backbone.embedding_size,
        "feature_size": backbone.feature_size,
    }


def untrained(backbone: Backbone) -> Init:
    """The strongest start without meta-training: sentence embeddings, rows mixed from names and support means."""
    config = WarpConfig(template="{text}", read_out="text", rows="mix")
    return Init.start(Warp(backbone, config), InnerLoop(0, ()))
