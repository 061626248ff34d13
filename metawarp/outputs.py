"""Output files are claimed before the work begins, so that nothing is lost."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from episodes import InputError
from episodes.writing import write_text

FORMAT_VERSION = 2
"""Version of the folders that metawarp writes."""

ADVICE = "choose another folder, or overwrite=True"


def claim_folder(
    folder: Path, files: Sequence[str], kind: str, *, overwrite: bool = False, advice: str = ADVICE
) -> None:
    """Check, before the work begins, that files can be written into a folder and that none is lost; InputError if not.

    Of the named files, those of an earlier run of the same kind may be replaced if `overwrite` is set; the message
    suggests the advice otherwise. Other files are never touched.
    """
    existing = [name for name in files if (folder / name).exists()]
    if existing and not overwrite:
        raise InputError(f"output={str(folder)!r} holds an earlier run ({existing[0]}); {advice}.")
    refuse_foreign_files(folder, kind, existing)
    _require_writable(folder)


def claim_file(file: Path, *, overwrite: bool = False) -> None:
    """Check, before the work begins, that a file can be written and that none is lost; InputError otherwise."""
    if file.is_dir():
        raise InputError(f"output={str(file)!r} is a folder; name a file.")
    if file.exists() and not overwrite:
        raise InputError(f"output={str(file)!r} exists already; choose another name, or overwrite=True.")
    _require_writable(file.parent)


def mark_folder(folder: Path, kind: str) -> None:
    """Write a config.json that states the kind of a folder, for a run that will save its results at the end."""
    write_text(folder / "config.json", json.dumps({"format": f"metawarp-{kind}", "format_version": FORMAT_VERSION}))


def refuse_foreign_files(folder: Path, kind: str, files: Sequence[str]) -> None:
    """Check that files to be replaced belong to a folder of the same kind, whether or not overwriting is allowed."""
    existing = [name for name in files if (folder / name).exists()]
    try:
        kind_of_folder = json.loads((folder / "config.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        kind_of_folder = None
    if existing and kind_of_folder != f"metawarp-{kind}":
        problem = f"{existing[0]} in {str(folder)!r} does not belong to a metawarp-{kind} and is not replaced"
        raise InputError(f"{problem}; choose another folder.")


def _require_writable(folder: Path) -> None:
    """Check that a file could be written into a folder, or into the one that it would be made in."""
    try:
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with tempfile.TemporaryFile(dir=existing):  # it has no name, and so is never left behind
            pass
    except OSError as error:
        raise InputError(f"output={str(folder)!r} cannot be written: {error.strerror}.") from error
