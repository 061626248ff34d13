"""Trackers of experiments, by name, through Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from episodes import InputError
from episodes.errors import listing

Report = Callable[[dict[str, Any], int], None]
"""Takes the numbers of a step, and the step."""


def silent(entry: dict[str, Any], step: int) -> None:
    """Report to nobody."""


def require_tracker(name: str | None) -> None:
    """Refuse a tracker that cannot be had, before the work begins.

    Raises:
        InputError: Accelerate knows no such tracker.
        ImportError: it is not installed.
    """
    if name is None:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if name not in LOGGER_TYPE_TO_CLASS:
        raise InputError(f"tracker {name!r} is not known to Accelerate; known: {listing(LOGGER_TYPE_TO_CLASS)}.")
    if name not in [str(tracker) for tracker in get_available_trackers()]:
        raise ImportError(f"tracker {name!r} is not installed: pip install {name}")


@contextmanager
def tracked(name: str | None, folder: Path, settings: Mapping[str, Any]) -> Iterator[Report]:
    """A run of the project "metawarp" that a tracker is told of, by the main process.

    Args:
        name: of the tracker; None for none.
        folder: where one that writes files puts them, into a folder "metawarp".
        settings: of the run; numbers, texts and truth values are told to the tracker.
    """
    if name is None:
        yield silent
        return
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=name, project_dir=folder)
    simple = {key: value for key, value in settings.items() if isinstance(value, str | bool | int | float)}
    accelerator.init_trackers("metawarp", config=simple)
    try:
        yield accelerator.log
    finally:
        for tracker in accelerator.trackers:  # `end_training` would part the processes, too
            tracker.finish()
