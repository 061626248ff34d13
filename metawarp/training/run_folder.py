"""The files of a run: a log that grows, and one checkpoint that is replaced whole, from which a killed run resumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from episodes import InputError
from metawarp.outputs import write_bytes
from metawarp.processes import SINGLE, Processes

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"

TensorGroups = dict[str, dict[str, Tensor]]
"""Groups of tensors by name, such as "offset", "exp_avg" and "best"."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's log, one for each step."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


class RunFolder:
    """The files of one run in an existing folder. The main process reads and writes, and sends what it reads."""

    def __init__(self, folder: Path, processes: Processes = SINGLE) -> None:
        self.folder, self.processes = folder, processes

    def clear(self) -> None:
        """Remove the log and the checkpoint of an earlier run."""
        if self.processes.is_main:
            (self.folder / LOG).write_text("", encoding="utf-8")
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        if self.processes.is_main:
            with open(self.folder / LOG, "a", encoding="utf-8") as opened:
                opened.write(json.dumps(entry) + "\n")

    def save(self, groups: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]) -> None:
        """Replace the checkpoint. The same file stores the progress as JSON, so that both belong to one moment."""
        if self.processes.is_main:
            named = {f"{group}/{name}": t for group, members in groups.items() for name, t in members.items()}
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
            write_bytes(self.folder / CHECKPOINT, serialized(tensors, metadata={"progress": json.dumps(progress)}))

    def load(self, device: torch.device) -> tuple[TensorGroups, dict[str, Any]]:
        """The groups and the progress of the checkpoint; InputError if there is none, or it is damaged."""
        groups, progress = self.processes.by_main(self._read)
        return {group: {n: t.to(device) for n, t in members.items()} for group, members in groups.items()}, progress

    def _read(self) -> tuple[TensorGroups, dict[str, Any]]:
        file = self.folder / CHECKPOINT
        if not file.is_file():
            raise InputError(f"output={str(self.folder)!r} holds no {CHECKPOINT} to resume; start without resume=True.")
        groups: TensorGroups = {}
        try:
            with safe_open(file, framework="pt") as opened:
                progress = json.loads(opened.metadata()["progress"])
                for key in opened.keys():  # noqa: SIM118 - safe_open is not a mapping
                    group, name = key.split("/", 1)
                    groups.setdefault(group, {})[name] = opened.get_tensor(key)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{str(file)!r} is damaged ({error}); start again with overwrite=True.") from error
        return groups, progress

    def cut_log(self, step: int) -> None:
        """Remove the lines of steps after the checkpoint, and a line that was being written when the run was killed."""
        if self.processes.is_main:
            log = self.folder / LOG
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            kept = [line for line in lines[:step] if line.endswith("}") and json.loads(line)["step"] <= step]
            log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
