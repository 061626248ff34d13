"""What a command writes: claimed before the work begins, so that nothing is lost, and each file whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from episodes import InputError

FORMAT_VERSION = 1
"""Of folders that metawarp marks as its own."""


def write_whole(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, so that a killed run leaves the old one.

    Tensors come here serialized: `save_file` raises no OSError, and its files are the owner's alone.
    """
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    os.replace(part, file)


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_whole(file, text.encode())


def claim_folder(
    folder: Path,
    files: Sequence[str],
    *,
    kind: str,
    overwrite: bool = False,
    advice: str = "choose another folder, or --overwrite",
) -> None:
    """Make sure, before the work begins, that its files can be written into a folder and that none is lost.

    Args:
        folder: made where it is missing.
        files: names of the files that are going to be written; other files are never touched.
        kind: what is going to be saved there with `save`.
        overwrite: whether files of the same kind of run may be written over.
        advice: what can be done where there is a run already.

    Raises:
        InputError: the files are there already; they are of another kind; or the folder cannot be written.
    """
    there = [name for name in files if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(f"output folder {str(folder)!r} holds another run ({there[0]}); {advice}.")
    refuse_foreign(folder, kind, there)
    _require_writable(folder)


def claim_file(file: Path, *, overwrite: bool = False) -> None:
    """Make sure, before the work begins, that a file can be written and that none is lost.

    Raises:
        InputError: the file is there already, or is a folder; or its folder cannot be written.
    """
    if file.is_dir():
        raise InputError(f"output {str(file)!r} is a folder; name a file.")
    if file.exists() and not overwrite:
        raise InputError(f"output file {str(file)!r} exists already; choose another name, or --overwrite.")
    _require_writable(file.parent)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".metawarp-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}.") from error


def mark(folder: Path, kind: str) -> None:
    """Write a config.json that says whose the folder is, for a run that is going to `save` there at its end."""
    write_text(folder / "config.json", json.dumps({"format": f"metawarp-{kind}", "format_version": FORMAT_VERSION}))


def refuse_foreign(folder: Path, kind: str, files: Sequence[str]) -> None:
    """Refuse to write over files of a folder that is not marked as one of this kind, --overwrite or not."""
    foreign = [name for name in files if (folder / name).exists()]
    if foreign and not _holds(folder, kind):
        raise InputError(
            f"{foreign[0]} in the folder {str(folder)!r} is not of a metawarp-{kind} and is left alone; "
            "choose another folder."
        )


def _holds(folder: Path, kind: str) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["format"] == f"metawarp-{kind}"
    except (OSError, ValueError, KeyError, TypeError):
        return False
