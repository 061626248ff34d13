"""How a sentence encoder was trained to be read: the layout of folders and Hub repositories that
sentence-transformers writes.

`modules.json` lists the modules: a Transformer, a Pooling, and any number of Dense and Normalize modules, each with a
folder of its own. Without this file, the mean over the tokens is the sentence embedding.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn

from episodes.errors import InputError, first_line, listing
from metawarp.backbones.pooling import POOLING_MODES, Pooling
from metawarp.backbones.repository import Repository
from metawarp.backbones.sentence_head import Dense, Normalize, output_size

_NAME = re.compile(r"[\w-]+")
_PACKAGE = "sentence_transformers."
_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
_TRANSFORMER_CONFIGS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json")
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Entries of the pooling configs that releases before 5 wrote, with the mode that each stands for."""


@dataclass(frozen=True)
class SentenceLayout:
    """How the model of a repository becomes a sentence encoder.

    Attributes:
        folder: folder of the transformer inside the repository; "" for the repository itself.
        pooling: how hidden states become one vector.
        hidden_size: width h of hidden states that the pooling was configured for; None if that is not known.
        head: Dense and Normalize modules after the pooling; without any, the identity.
        max_length: largest number of tokens of a text, special tokens included; None: the model's own limit.
        lower_case: whether texts are lower-cased first.
        prompts: texts that are put before a text, by name.
        default_prompt: name of the prompt that is used if none is named; None: no prompt.
    """

    folder: str = ""
    pooling: Pooling = Pooling()
    hidden_size: int | None = None
    head: nn.Sequential = field(default_factory=nn.Sequential)
    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    @property
    def identity(self) -> str:
        """What sentence embeddings depend on beside weights; "" for mean pooling, as without a layout."""
        dense = [str(module) for module in self.head if isinstance(module, Dense)]
        plain = self.pooling == Pooling() and not self.lower_case and not dense
        return "" if plain else repr((self.pooling, self.lower_case, *dense))

    def embedding_size(self, hidden_size: int) -> int:
        """Width of a sentence embedding of a model whose hidden states have the width `hidden_size`."""
        return output_size(self.head, hidden_size * len(self.pooling.modes))

    def require_width(self, hidden_size: int, name: str) -> None:
        """Check that pooling and head fit a model; InputError names the backbone if they do not."""
        if self.hidden_size not in (None, hidden_size):
            problem = f"its pooling is configured for the width {self.hidden_size}, but its model has {hidden_size}"
            raise _unreadable(name, problem)
        try:
            self.embedding_size(hidden_size)
        except InputError as error:
            raise _unreadable(name, str(error)) from error

    def prompt_text(self, prompt: str, name: str) -> str:
        """The text that is put before each text.

        Args:
            prompt: name of one of the prompts, or the text itself. A value that consists of letters, digits, "-" and
                "_" alone is a name.
            name: name of the backbone.

        InputError if there is no prompt of this name.
        """
        if prompt not in self.prompts and _NAME.fullmatch(prompt):
            known = f"its prompts are {listing(self.prompts)}" if self.prompts else "it has no named prompts"
            advice = "to give the text of a prompt, end it with a colon or a space, as in prompt='query: '"
            raise InputError(f"Backbone {name!r} has no prompt {prompt!r}: {known}; {advice}.")
        return self.prompts.get(prompt, prompt)


def read_layout(repository: Repository) -> SentenceLayout:
    """The layout of a repository; the default one if it has no modules.json.

    InputError if the layout is incomplete or damaged, or has a module that is not supported.
    """
    reader = _Reader(repository)
    if (file := repository.file("modules.json")) is None:
        return SentenceLayout()
    modules = reader.content_of(file, list)
    try:
        kinds = [_kind(str(module["type"])) for module in modules]
        folders = [str(module["path"]) for module in modules]
    except (KeyError, TypeError) as error:
        raise reader.refusal("modules.json does not list modules with a type and a path") from error
    if outside := [path for path in folders if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts]:
        raise reader.refusal(f"modules.json names the folder {outside[0]!r} outside of the repository")
    if unknown := [kind for kind in kinds if kind not in _MODULES]:
        raise reader.refusal(f"modules.json lists modules of the type {listing(unknown)}", listing(_MODULES))
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) & {"Transformer", "Pooling"}:
        needed = "a Transformer, then a Pooling, then Dense and Normalize modules"
        raise reader.refusal(f"modules.json lists {listing(kinds)}", needed)
    transformer, pooling, *others = folders
    settings = next((one for one in (reader.config(transformer, each) for each in _TRANSFORMER_CONFIGS) if one), {})
    prompts = reader.config("", "config_sentence_transformers.json") or {}
    hidden_size, how = reader.pooling(pooling)
    return SentenceLayout(
        transformer,
        how,
        hidden_size,
        nn.Sequential(*(reader.module(kind, folder) for kind, folder in zip(kinds[2:], others, strict=True))),
        reader.positive(settings.get("max_seq_length"), "max_seq_length"),
        bool(settings.get("do_lower_case")),
        reader.prompts(prompts.get("prompts")),
        reader.name(prompts.get("default_prompt_name"), "default_prompt_name"),
    )


@dataclass(frozen=True)
class _Reader:
    """Reads the configs of one repository; its errors name the repository."""

    repository: Repository

    def refusal(self, problem: str, needed: str | None = None) -> InputError:
        support = "" if needed is None else f"; metawarp supports {needed}"
        return _unreadable(self.repository.name, f"{problem}{support}")

    def content_of(self, file: Path, kind: type) -> Any:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.refusal(f"{file.name} is damaged ({first_line(error)})") from error
        if not isinstance(content, kind):
            raise self.refusal(f"{file.name} holds a {type(content).__name__}, not a {kind.__name__}")
        return content

    def config(self, folder: str, file: str) -> dict[str, Any] | None:
        """The content of a config file in a module's folder; None if it is not there."""
        path = self.repository.file(file, folder)
        return None if path is None else self.content_of(path, dict)

    def needed_config(self, folder: str) -> dict[str, Any]:
        config = self.config(folder, "config.json")
        if config is None:
            raise self.refusal(f"modules.json names the folder {folder!r}, but {folder}/config.json is missing")
        return config

    def positive(self, value: Any, name: str) -> int | None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self.refusal(f"{name}={value!r} is not a positive number")
        return value

    def name(self, value: Any, key: str) -> str | None:
        if value is not None and not isinstance(value, str):
            raise self.refusal(f"{key}={value!r} is not a name")
        return value

    def prompts(self, prompts: Any) -> dict[str, str]:
        prompts = {} if prompts is None else prompts
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise self.refusal("the prompts in config_sentence_transformers.json are not texts by name")
        return prompts

    def pooling(self, folder: str) -> tuple[int | None, Pooling]:
        """The width of hidden states that a pooling is configured for, and the pooling."""
        config = self.needed_config(folder)
        named = config.get("pooling_mode") or [mode for key, mode in _LEGACY_MODES.items() if config.get(key)] or "mean"
        modes = (named,) if isinstance(named, str) else tuple(named)
        if unknown := [mode for mode in modes if mode not in POOLING_MODES]:
            raise self.refusal(f"its pooling mode is {listing(unknown)}", listing(POOLING_MODES))
        extra = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        if unknown := [key for key in extra if key not in _LEGACY_MODES]:
            raise self.refusal(f"its pooling config has {listing(unknown)}", listing(POOLING_MODES))
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        pooling = Pooling(modes, bool(config.get("include_prompt", True)))
        return self.positive(width, "word_embedding_dimension"), pooling

    def module(self, kind: str, folder: str) -> nn.Module:
        if kind == "Normalize":
            self.require_sentence(self.config(folder, "config.json") or {}, folder)
            return Normalize()
        config = self.needed_config(folder)
        self.require_sentence(config, folder)
        if (weights := self.repository.file("model.safetensors", folder)) is None:
            raise self.refusal(f"modules.json names the folder {folder!r}, but {folder}/model.safetensors is missing")
        try:
            return Dense.load(config, weights, folder)
        except InputError as error:
            raise self.refusal(str(error).rstrip(".")) from error

    def require_sentence(self, config: Mapping[str, Any], folder: str) -> None:
        names = {config.get(f"module_{end}_name") or "sentence_embedding" for end in ("input", "output")}
        if names != {"sentence_embedding"}:
            raise self.refusal(
                f"the module in {folder!r} reads or writes {listing(names)}", "sentence embeddings alone"
            )


def _unreadable(name: str, problem: str) -> InputError:
    return InputError(f"Backbone {name!r} is a sentence encoder that cannot be read: {problem}.")


def _kind(type_name: str) -> str:
    """The class name of a module of sentence-transformers; the whole type name of any other module."""
    return type_name.rpartition(".")[2] if type_name.startswith(_PACKAGE) else type_name
