"""Folders of learned numbers: one safetensors file and one config.json that vouches for it. No pickle anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from episodes import InputError
from metawarp.outputs import FORMAT_VERSION, refuse_foreign, write_text, write_whole


def save(
    folder: Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    card: str | None = None,
) -> str:
    """Write `<kind>.safetensors` and config.json into a folder, each whole or not at all.

    Args:
        folder: made where it is missing.
        kind: what the numbers are, such as "init"; the name of the file and part of its format.
        tensors: by name; stored in their own dtype.
        config: whatever JSON can hold; the format, the versions and the hash of the tensors are added.
        card: text of the folder's README.md; None writes none.

    Returns:
        sha256 (hex digits) of the safetensors file.

    Raises:
        InputError: the folder holds something of another kind, or cannot be written.
    """
    file = folder / f"{kind}.safetensors"
    refuse_foreign(folder, kind, ["config.json", file.name, *(["README.md"] if card is not None else [])])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = serialized({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        write_whole(file, data)
        header = {
            "format": f"metawarp-{kind}",
            "format_version": FORMAT_VERSION,
            "metawarp_version": version("metawarp"),
            "sha256": digest,
        }
        write_text(folder / "config.json", json.dumps({**header, **config}, indent=2, ensure_ascii=False) + "\n")
        if card is not None:
            write_text(folder / "README.md", card)
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be written: {error.strerror}.") from error
    return digest


def load(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote: tensors and config.

    Raises:
        InputError: a file is missing, of another kind or an unknown version, damaged, or holds numbers that
            are not finite.
    """
    file, config_file = folder / f"{kind}.safetensors", folder / "config.json"
    form = f"a saved {kind} is a folder with {config_file.name} and {file.name}."
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}; {form}")
    for needed in (config_file, file):
        if not needed.is_file():
            raise InputError(f"{str(folder)!r} holds no {needed.name}; {form}")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{str(config_file)!r} is damaged: it is no JSON in UTF-8.") from error
    if not isinstance(config, dict) or config.get("format") != f"metawarp-{kind}":
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise InputError(f"{str(config_file)!r} is of format {found!r}; a metawarp-{kind} is needed.")
    if config.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{str(config_file)!r} has format version {config.get('format_version')!r}; this metawarp reads "
            f"version {FORMAT_VERSION}: install a newer metawarp."
        )
    if hashlib.sha256(file.read_bytes()).hexdigest() != config.get("sha256"):
        raise InputError(f"{str(file)!r} is truncated or damaged: its sha256 is not the one in config.json.")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise InputError(f"{str(file)!r} is no safetensors file.") from error
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise InputError(f"{str(file)!r} holds numbers that are not finite in {', '.join(sorted(bad))}.")
    return tensors, config
