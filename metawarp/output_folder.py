"""Folders whose files are replaced all together: whoever opens one finds the old content or the new, never a mixture.

New files are collected in the subfolder `unfinished`. When all of them are on the disk, a list of them is written
there, and from then on the new version is valid. Each file is moved to its place, and if the process is killed
meanwhile, the next one that opens the folder moves the rest. Without the list, the subfolder is what an interrupted run
has left, and the next run removes or continues it. Other files in the folder are never touched. A lock keeps two
processes from writing at the same time.
"""

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from episodes import InputError
from episodes.writing import write_bytes
from metawarp.outputs import claim_folder, mark_folder

Content = TypeVar("Content")

UNFINISHED = "unfinished"
"""Subfolder in which a new version of a folder is collected."""

LOCK = ".lock"
"""Empty file that the writing process has locked; it stays, because removing it could let in two processes at once."""

SECONDS_TO_WAIT = 30.0
"""How long a process waits for another one that replaces a folder, which takes milliseconds."""

_LIST = "files.json"


@contextmanager
def new_version(folder: Path, kind: str, files: Sequence[str] = (), *, overwrite: bool = True) -> Iterator[Path]:
    """A folder to be filled; when the block ends, its files take the place of those in `folder`.

    If the block fails, everything is as before. InputError if the folder cannot be written, another process writes into
    it, or it holds some of the named files and is of another kind, or they may not be overwritten.
    """
    try:
        with locked(folder, seconds=SECONDS_TO_WAIT):
            finish(folder)
            claim_folder(folder, files, kind, overwrite=overwrite)
            require_own(folder, kind)
            try:
                yield begin(folder, kind)
                commit(folder)
            except BaseException:
                discard(folder)
                raise
    except OSError as error:
        raise InputError(f"The folder {str(folder)!r} cannot be written: {error.strerror}.") from error


@contextmanager
def locked(folder: Path, *, seconds: float = 0, name: str = LOCK) -> Iterator[None]:
    """A context in which no other process writes into a folder, which is made if it is missing.

    InputError if another process writes into it and does not end within the given seconds (-1: without limit). `name`
    is that of the file that is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / name).is_symlink():
        raise InputError(f"{str(folder / name)!r} is a link, which is never written through; remove it.")
    try:
        with FileLock(folder / name, timeout=seconds, mode=0o666):
            yield
    except Timeout:
        problem = f"Another process is writing into {str(folder)!r}"
        raise InputError(f"{problem}; wait until it has ended, or choose another folder.") from None


def begin(folder: Path, kind: str) -> Path:
    """A new, empty subfolder to collect files in; what an interrupted run left there is removed. The folder must be
    locked, and `finish` be called before. InputError if the subfolder is not of metawarp."""
    part = folder / UNFINISHED
    require_own(folder, kind)
    _remove(part)
    part.mkdir(parents=True)
    mark_folder(part, kind)
    return part


def commit(folder: Path, stale: Sequence[str] = ()) -> None:
    """Move the collected files to their places, and remove the stale ones that are not among them. The folder must be
    locked."""
    part = folder / UNFINISHED
    files = sorted(str(file.relative_to(part)) for file in part.rglob("*") if file.is_file())
    for name in files:
        _flush(part / name)
    listed = {"files": files, "stale": sorted(set(stale) - set(files))}
    write_bytes(part / _LIST, json.dumps(listed).encode())
    _move(folder)


def discard(folder: Path) -> None:
    """Remove what was collected, unless it is complete: then the new version is valid. The folder must be locked."""
    if not _is_listed(folder):
        _remove(folder / UNFINISHED)


def finish(folder: Path) -> None:
    """Move files to their places that a killed process has left to be moved. The folder must be locked."""
    if _is_listed(folder):
        _move(folder)


def format_of(folder: Path) -> str:
    """What the config.json of a folder says of its kind, such as "metawarp-init"; "" if it says nothing."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["format"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read_whole(folder: Path, read: Callable[[], Content]) -> Content:
    """What a function reads of a folder, from one version of it, while other processes may replace it.

    Errors are those of the function.
    """
    while True:
        if _is_listed(folder):
            _finish_before_reading(folder)
        before = _version(folder)
        if _is_listed(folder):
            continue  # another process has begun meanwhile
        try:
            content = read()
        except InputError:
            if _version(folder) == before:
                raise
            continue
        if _version(folder) == before:
            return content


def require_own(folder: Path, kind: str) -> None:
    """InputError if the subfolder for new files is there and is not of this kind of folder."""
    part = folder / UNFINISHED
    if not part.is_symlink() and not part.exists():
        return
    if not part.is_symlink() and part.is_dir():
        if _is_listed(folder):
            return  # a killed process has left files to be moved: see `finish`
        names = {file.name for file in part.rglob("*") if not file.is_dir()}
        if all(name.endswith(".part") for name in names) or format_of(part) == f"metawarp-{kind}":
            return
    problem = f"The folder {str(part)!r} belongs to something else than a metawarp-{kind} and is not replaced"
    raise InputError(f"{problem}; remove it, or choose another output.")


def _is_listed(folder: Path) -> bool:
    """Whether a new version is complete and not yet in its place."""
    part = folder / UNFINISHED
    return (part / _LIST).is_file() and not part.is_symlink() and not (part / _LIST).is_symlink()


def _finish_before_reading(folder: Path) -> None:
    try:
        with locked(folder, seconds=SECONDS_TO_WAIT):
            finish(folder)
    except OSError as error:
        for _ in range(int(10 * SECONDS_TO_WAIT)):  # the folder is read-only here; another machine may be writing it
            if not _is_listed(folder):
                return
            time.sleep(0.1)
        problem = f"An interrupted run has left files in {str(folder / UNFINISHED)!r} that cannot be moved"
        raise InputError(f"{problem} ({error.strerror}); make the folder writable once.") from error


def _move(folder: Path) -> None:
    """Move the listed files; those that are not there any more have been moved."""
    part = folder / UNFINISHED
    try:
        listed = json.loads((part / _LIST).read_text(encoding="utf-8"))
        files, stale = ([_inside(folder, name) for name in listed[kind]] for kind in ("files", "stale"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{str(part / _LIST)!r} is damaged; remove the folder {UNFINISHED!r}.") from error
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(files, key=lambda name: name != "config.json"):  # it says first of what kind the folder is
        if (part / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / name, folder / name)
    _flush(folder)
    (part / _LIST).unlink()
    _remove(part)


def _remove(part: Path) -> None:
    """Remove the subfolder; the file that says whose it is comes last, in case the process is killed."""
    if not part.is_dir():
        return
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "config.json":
            path.unlink()
    shutil.rmtree(part)


def _inside(folder: Path, name: str) -> str:
    """A path of the list; ValueError if it leads out of the folder, also through a link."""
    if not isinstance(name, str) or Path(name).anchor or Path(name).drive or ".." in Path(name).parts:
        raise ValueError(name)
    for root in (folder, folder / UNFINISHED):
        if not (root / name).parent.resolve().is_relative_to(root.resolve()):
            raise ValueError(name)
    return name


def _version(folder: Path) -> tuple[object, ...]:
    """Something that changes when a new version takes its place, and while it does."""
    try:
        config = os.stat(folder / "config.json")
    except OSError:
        return (None, _is_listed(folder))
    return (config.st_ino, config.st_mtime_ns, _is_listed(folder))


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    if os.name == "nt" and stat.S_ISDIR(path.stat().st_mode):  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
