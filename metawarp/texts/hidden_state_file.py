"""A memory-mapped file with the hidden states of all texts of a corpus, for the layers below an adapter.

The file is named after everything that its content depends on, and ends with a sha256 of its name and content. A
damaged file is made again. A new file appears whole. Several processes may share one folder: one of them writes a file,
and the others wait for it.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.output_folder import locked

logger = logging.getLogger(__name__)

_FORMAT = "metawarp-hidden-1"
_IRRELEVANT = ("_name_or_path", "dtype", "transformers_version")
"""Entries of a model's config that do not change what it computes."""


HiddenStateFile = Mapping[bytes, Tensor]
"""Hidden states (n, h) of each text in a file, by the token ids of the text as int64 bytes."""


def open_hidden_states(
    folder: Path, backbone: Backbone, layer: int, keys: Sequence[bytes], states: Iterable[Tensor]
) -> HiddenStateFile:
    """The file of what the first `layer` layers compute of some texts; InputError if it cannot be written.

    `keys` are the token ids of the texts, sorted by length. `states`, the hidden states (n, h) of each, are consumed
    only if the file is missing or damaged. The folder is made if it is missing.
    """
    file = folder / f"{_file_name(backbone, layer, keys)}.hidden"
    lengths = [len(key) // 8 for key in keys]
    mapped = _map(file, sum(lengths), backbone)
    if mapped is None:
        mapped = _written(file, states, sum(lengths), backbone)
    if mapped is None:
        raise InputError(f"The cache file {str(file)!r} cannot be read back; choose another cache_folder.")
    return dict(zip(keys, mapped.split(lengths), strict=True))


def _file_name(backbone: Backbone, layer: int, keys: Sequence[bytes]) -> str:
    """Sha256 (32 hexadecimal digits) of weights, config, data type, layer and the token ids of all texts."""
    config = {key: value for key, value in backbone.config.to_dict().items() if key not in _IRRELEVANT}
    header = [_FORMAT, backbone.fingerprint, config, str(backbone.dtype), layer, len(keys)]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, default=str).encode())
    for key in keys:
        digest.update(len(key).to_bytes(4, "little") + key)
    return digest.hexdigest()[:32]


def _map(file: Path, n_tokens: int, backbone: Backbone) -> Tensor | None:
    """The hidden states of a file, memory-mapped; None if it is missing or damaged."""
    size = n_tokens * backbone.hidden_size * backbone.dtype.itemsize
    try:
        content = np.memmap(file, mode="c")
    except (OSError, ValueError):  # missing, or empty
        return None
    digest = hashlib.sha256(file.stem.encode())
    digest.update(content[:size].data)
    if len(content) != size + digest.digest_size or bytes(content[size:]) != digest.digest():
        logger.warning("the cache file %r is damaged; it is made again", str(file))
        return None
    return torch.from_numpy(content[:size]).view(backbone.dtype).view(n_tokens, backbone.hidden_size)


def _written(file: Path, states: Iterable[Tensor], n_tokens: int, backbone: Backbone) -> Tensor | None:
    """The hidden states of a file that is written now, unless another process has done so meanwhile."""
    try:
        with locked(file.parent, seconds=-1, name=f".{file.name}.lock"):
            if (mapped := _map(file, n_tokens, backbone)) is not None:
                return mapped
            _remove_rests(file)
            _write(file, states)
    except OSError as error:
        reason = f"{error.strerror}; it needs room for {n_tokens:,} hidden states"
        problem = f"cache_folder={str(file.parent)!r} cannot be written ({reason})"
        raise InputError(f"{problem}; choose another folder, or leave it out.") from error
    return _map(file, n_tokens, backbone)


def _remove_rests(file: Path) -> None:
    """Remove what killed processes have left in the folder of a file: only who has the lock of a file writes it."""
    for rest in file.parent.glob("*.hidden.part"):
        name = rest.name.removesuffix(".part")
        if name == file.name:
            rest.unlink()
            continue
        with suppress(InputError), locked(file.parent, name=f".{name}.lock"):
            rest.unlink(missing_ok=True)


def _write(file: Path, states: Iterable[Tensor]) -> None:
    digest, part = hashlib.sha256(file.stem.encode()), file.with_name(f"{file.name}.part")
    try:
        with open(part, "xb") as opened:
            for text in tqdm(states, desc="layers below the adapter", unit="text", disable=None, leave=False):
                content = text.contiguous().view(torch.uint8).numpy().data
                opened.write(content)
                digest.update(content)
            opened.write(digest.digest())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
