"""Writing output files: they are claimed before the work begins, so that nothing is lost, and each appears whole."""

import glob
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import get_ident

from episodes import InputError

FORMAT_VERSION = 2
"""Version of the folders that metawarp writes."""

ADVICE = "choose another folder, or overwrite=True"


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, so that a killed run leaves the old one. Its folder is made if it is missing.

    Tensors are passed serialized: safetensors' `save_file` raises no OSError, and makes files private to their owner.
    """
    part = file.with_name(f"{file.name}.{os.getpid()}-{_start_of(os.getpid())}-{get_ident()}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    for rest in file.parent.glob(f"{glob.escape(file.name)}.*-*.part"):
        if not _is_running(rest):  # the process that began it was killed
            rest.unlink(missing_ok=True)
    try:
        part.unlink(missing_ok=True)
        with open(part, "xb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _is_running(part: Path) -> bool:
    """Whether the process whose number and start are in the name of an unfinished file is still there."""
    numbers = part.name.rsplit(".", 2)[1].split("-")
    if not all(number.isdigit() for number in numbers) or len(numbers) != 3:
        return True  # a file of somebody else
    start = _start_of(int(numbers[0]))
    return start is not None and (start == int(numbers[1]) or 0 in (start, int(numbers[1])))


def _start_of(process: int) -> int | None:
    """The time at which a process started, in hundredths of a second; None if there is none of this number. Without
    psutil, which a small installation for saved tasks lacks, it is 0 for every number."""
    try:
        import psutil
    except ImportError:
        return 0
    try:
        return int(100 * psutil.Process(process).create_time())
    except psutil.Error:
        return None


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Characters that UTF-8 lacks, as in names of files that are in
    another encoding, are written as JSON escapes."""
    write_bytes(file, text.encode(errors="backslashreplace"))


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
