"""Paths as users write them."""

import os
from pathlib import Path

from episodes.errors import InputError


def user_path(path: str | Path) -> Path:
    """A path in which "~" is the home folder; a name that begins with "~" and is that of no user stays as it is.

    InputError if it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r} is of type {type(path).__name__}, but the name of a file or folder is needed.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; no if the name is too long, or has characters that no name may have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
