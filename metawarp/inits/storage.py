"""Folders of learned numbers: a safetensors file, and a config.json with the hashes of both. Nothing is pickled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialized, save as serialized
from torch import Tensor

from episodes import InputError
from episodes.schemas import Strict
from episodes.writing import write_bytes, write_text
from metawarp.outputs import FORMAT_VERSION, refuse_foreign_files


@dataclass(frozen=True)
class Header(Strict):
    """What every config.json holds beside its checksum; subclasses add the settings of their kind."""

    format: str
    format_version: int
    metawarp_version: str
    sha256: str


CHECKSUM = "config_sha256"
"""Entry of a config.json with the hash of all others; configs of earlier releases lack it."""


def save(
    folder: Path, kind: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, card: str | None = None
) -> str:
    """Write `<kind>.safetensors`, config.json and, if there is a card, README.md; returns the sha256 of the tensors.

    Each file appears whole or not at all. The folder is made if it is missing; InputError if it holds another kind.
    Format, versions and the hash of the tensors are added to the config.
    """
    file = folder / f"{kind}.safetensors"
    refuse_foreign_files(folder, kind, ["config.json", file.name, *(["README.md"] if card is not None else [])])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = serialized({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        write_bytes(file, data)
        header = {"format": f"metawarp-{kind}", "format_version": FORMAT_VERSION}
        header |= {"metawarp_version": version("metawarp"), "sha256": digest}
        settings = json.loads(json.dumps({**header, **config}))
        settings[CHECKSUM] = checksum(settings)
        write_text(folder / "config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        if card is not None:
            write_text(folder / "README.md", card)
    except OSError as error:
        raise InputError(f"The folder {str(folder)!r} cannot be written: {error.strerror}.") from error
    return digest


def load(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the config that `save` wrote; InputError if they are missing, damaged or of another kind."""
    file, config_file = folder / f"{kind}.safetensors", folder / "config.json"
    if missing := [path.name for path in (config_file, file) if not path.is_file()]:
        problem = f"{str(folder)!r} holds no {missing[0]}" if folder.is_dir() else f"There is no folder {str(folder)!r}"
        raise InputError(f"{problem}; a saved {kind} is a folder with {config_file.name} and {file.name}.")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        found = checksum(config) if isinstance(config, dict) else ""
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(config_file)!r} is damaged: it is not JSON in UTF-8.") from error
    given = config.get("format") if isinstance(config, dict) else type(config).__name__
    if given != f"metawarp-{kind}":
        raise InputError(f"{str(config_file)!r} is of format {given!r}, but a metawarp-{kind} is needed.")
    if (given := config.get("format_version")) != FORMAT_VERSION:
        problem = f"has format version {given!r}, but this metawarp reads version {FORMAT_VERSION}"
        raise InputError(f"{str(config_file)!r} {problem}; use the metawarp that wrote it, or make it again.")
    if config.pop(CHECKSUM, found) != found:
        problem = f"{str(config_file)!r} is damaged or was edited: its {CHECKSUM} is not that of its content"
        raise InputError(f"{problem}; make it again.")
    data = file.read_bytes()  # once: another process may replace the file
    if hashlib.sha256(data).hexdigest() != config.get("sha256"):
        raise InputError(f"{str(file)!r} is truncated or damaged: its sha256 is not the one in config.json.")
    try:
        tensors = deserialized(data)
    except SafetensorError as error:
        raise InputError(f"{str(file)!r} is not a safetensors file.") from error
    if not_finite := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise InputError(f"{str(file)!r} holds numbers that are not finite in {', '.join(not_finite)}.")
    return tensors, config


def checksum(config: Mapping[str, Any]) -> str:
    """The hash of all entries of a config but `CHECKSUM`."""
    content = {name: value for name, value in config.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...] | None], file: str) -> None:
    """Check names and shapes of stored tensors, None for any shape; InputError names the file and what differs."""
    if set(tensors) != set(shapes):
        raise InputError(f"{file} holds {sorted(tensors)}, but its config needs {sorted(shapes)}.")
    for name, shape in shapes.items():
        if shape is not None and (given := tuple(tensors[name].shape)) != shape:
            raise InputError(f"{name} in {file} has the shape {given}, but its config needs {shape}.")
