"""The files of a run: a log that grows, and one checkpoint that is replaced whole; a killed run goes on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from episodes import InputError
from metawarp import outputs, processes

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"

Groups = dict[str, dict[str, Tensor]]
"""Dicts of tensors by name, such as "offset", "exp_avg" and "best"."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's log, one for each step."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


class RunFolder:
    """The files of one run. The main process writes and reads them; what is read is told to the others.

    Args:
        folder: it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Forget a run that is going to be written over."""
        if processes.is_main():
            (self.folder / LOG).write_text("", encoding="utf-8")
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        if processes.is_main():
            with open(self.folder / LOG, "a", encoding="utf-8") as opened:
                opened.write(json.dumps(entry) + "\n")

    def save(self, groups: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Args:
            groups: see `Groups`.
            progress: everything else, as JSON can hold it; kept in the same file, so that both are of one moment.
        """
        if not processes.is_main():
            return
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, members in groups.items()
            for name, tensor in members.items()
        }
        outputs.write_whole(self.folder / CHECKPOINT, serialized(tensors, metadata={"progress": json.dumps(progress)}))

    def load(self, device: torch.device) -> tuple[Groups, dict[str, Any]]:
        """What `save` wrote last.

        Raises:
            InputError: there is none, or it is damaged.
        """
        groups, progress = processes.by_main(self._read)
        moved = {
            group: {name: tensor.to(device) for name, tensor in members.items()} for group, members in groups.items()
        }
        return moved, progress

    def _read(self) -> tuple[Groups, dict[str, Any]]:
        file = self.folder / CHECKPOINT
        if not file.is_file():
            raise InputError(f"{str(self.folder)!r} holds no {CHECKPOINT} to resume from; start it without --resume.")
        groups: Groups = {}
        try:
            with safe_open(file, framework="pt") as opened:
                progress = json.loads(opened.metadata()["progress"])
                for key in opened.keys():  # noqa: SIM118 - safe_open is no mapping
                    group, name = key.split("/", 1)
                    groups.setdefault(group, {})[name] = opened.get_tensor(key)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{str(file)!r} is damaged ({error}); start anew with --overwrite.") from error
        return groups, progress

    def cut_log(self, step: int) -> None:
        """Drop the lines of steps after the checkpoint's, and one that was being written when the run was killed."""
        if not processes.is_main():
            return
        log = self.folder / LOG
        entries = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        done = [line for line in entries[:step] if line.endswith("}") and json.loads(line)["step"] <= step]
        log.write_text("".join(f"{line}\n" for line in done), encoding="utf-8")
