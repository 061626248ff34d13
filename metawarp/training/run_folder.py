"""The files of a run: a log that grows, and one checkpoint that is replaced whole, from which a killed run resumes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from episodes import InputError
from episodes.writing import write_bytes, write_text
from metawarp.inits.file import CHECKPOINT, LOG
from metawarp.processes import SINGLE, Processes

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
            write_text(self.folder / LOG, "")
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
            metadata = {"progress": json.dumps(progress)}
            metadata["sha256"] = _checksum(tensors, metadata["progress"])
            write_bytes(self.folder / CHECKPOINT, serialized(tensors, metadata=metadata))

    def load(self, device: torch.device) -> tuple[TensorGroups, dict[str, Any]]:
        """The groups and the progress of the checkpoint; InputError if there is none, or it is damaged."""
        groups, progress = self.processes.by_main(self._read)
        return {group: {n: t.to(device) for n, t in members.items()} for group, members in groups.items()}, progress

    def _read(self) -> tuple[TensorGroups, dict[str, Any]]:
        file = self.folder / CHECKPOINT
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
        except FileNotFoundError:
            raise InputError(f"{str(self.folder)!r} holds no {CHECKPOINT}; start without resume=True.") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{str(file)!r} is damaged ({error}); start again with overwrite=True.") from error
        if metadata.get("sha256") != _checksum(tensors, metadata.get("progress", "")):
            problem = f"{str(file)!r} is damaged or of an earlier release: its checksum is not that of its content"
            raise InputError(f"{problem}; start again with overwrite=True.")
        groups: TensorGroups = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor
        try:
            return groups, json.loads(metadata["progress"])
        except (ValueError, RecursionError) as error:
            raise InputError(f"The progress in {str(file)!r} is not JSON; start again with overwrite=True.") from error

    def cut_log(self, step: int) -> None:
        """Remove the lines of steps after the checkpoint, and a line that was being written when the run was killed.
        InputError if the lines are not those of the steps before."""
        self.processes.by_main(lambda: self._cut_log(step))

    def _cut_log(self, step: int) -> None:
        log = self.folder / LOG
        try:
            lines = log.read_text(encoding="utf-8").splitlines()[:step]
            steps = [json.loads(line)["step"] for line in lines]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            lines, steps = [], [-1]
        if steps != list(range(1, step + 1)):
            problem = f"{str(log)!r} is damaged: its lines are not those of the steps 1 to {step}"
            raise InputError(f"{problem}; start again with overwrite=True.")
        write_text(log, "".join(f"{line}\n" for line in lines))


def _checksum(tensors: Mapping[str, Tensor], progress: str) -> str:
    """Sha256 over the progress, and over name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
