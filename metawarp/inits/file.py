"""The files of a saved init, and what its config.json holds."""

from dataclasses import dataclass, replace
from typing import Any, Self

from episodes.schemas import Strict, parsed
from metawarp.adaptation.recognition import Recognition
from metawarp.adaptation.temperature import Temperature
from metawarp.backbones.backbone import Backbone
from metawarp.config import InnerLearningRates, InnerLoop, WarpConfig
from metawarp.inits.storage import Header

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
"""The files of a training that lie beside the init that it ended with."""

INIT_FILES = ("init.safetensors", "config.json", "README.md")
"""The files of a saved init."""


@dataclass(frozen=True)
class BackboneIdentity(Strict):
    """The backbone that an init belongs to: the name that it was loaded by, the fingerprint of its weights, the widths
    of its word embeddings and of its feature at [MASK], and the prompt before every text."""

    name: str
    fingerprint: str
    embedding_size: int
    feature_size: int
    prompt: str = ""

    @classmethod
    def of(cls, backbone: Backbone) -> Self:
        """The identity of a loaded backbone."""
        sizes = backbone.embedding_size, backbone.feature_size
        return cls(backbone.name, backbone.fingerprint, *sizes, backbone.prompt)

    def with_its_prompt(self, backbone: Backbone) -> Backbone:
        """The backbone with the prompt of this identity, if it is this backbone; otherwise as it is."""
        return replace(backbone, prompt=self.prompt) if backbone.fingerprint == self.fingerprint else backbone


@dataclass(frozen=True)
class InitFile(Header):
    """The config.json of a saved init."""

    backbone: BackboneIdentity
    model: WarpConfig
    inner: InnerLoop
    method: str
    training: dict[str, Any]
    temperature: Temperature
    recognition: Recognition | None = None

    def __post_init__(self) -> None:
        parsed(dict[str, list[str]], self.training.get("class_names", {}), "class_names in training")
        parsed(InnerLearningRates, self.training.get("inner_lr", {}), "inner_lr in training")
