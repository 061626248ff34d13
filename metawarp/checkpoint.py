"""Where meta-training stands, in one file that is replaced whole: a killed run goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from episodes import InputError

FILE = "checkpoint.safetensors"


def save_checkpoint(folder: Path, groups: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]) -> None:
    """Replace the checkpoint of a run.

    Args:
        folder: of the run.
        groups: dicts of tensors by name, such as "offset", "exp_avg" and "best".
        progress: everything else, as JSON can hold it; kept in the same file, so that both are of one moment.
    """
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    part = folder / f"{FILE}.part"
    save_file(tensors, part, metadata={"progress": json.dumps(progress)})
    os.replace(part, folder / FILE)


def load_checkpoint(folder: Path, device: torch.device) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{str(folder)!r} holds no {FILE} to resume from; start it without --resume.")
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            progress = json.loads(opened.metadata()["progress"])
            for key in opened.keys():  # noqa: SIM118 - safe_open is no mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = opened.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{str(file)!r} is damaged ({error}); start anew with --overwrite.") from error
    return groups, progress
