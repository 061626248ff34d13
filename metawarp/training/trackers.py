"""Experiment trackers by name, through Accelerate."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from episodes.errors import require_choice

Report = Callable[[dict[str, Any], int], None]
"""Receives the numbers of a step, and the step."""


def no_report(entry: dict[str, Any], step: int) -> None:
    """Report to no tracker."""


def require_tracker(name: str | None) -> None:
    """Check, before the work begins, that Accelerate knows a tracker (InputError) and it is installed (ImportError)."""
    if name is None:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    require_choice("log_with", name, LOGGER_TYPE_TO_CLASS)
    if name not in [str(tracker) for tracker in get_available_trackers()]:
        raise ImportError(f"log_with={name!r} is not installed: pip install {name}")


@contextmanager
def tracked(name: str | None, folder: Path, settings: Mapping[str, Any]) -> Iterator[Report]:
    """A run of the project "metawarp" in a tracker, with the settings that are numbers, strings or booleans. A tracker
    that writes files makes a folder "metawarp" in `folder`."""
    if name is None:
        yield no_report
        return
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=name, project_dir=folder)
    simple = {key: value for key, value in settings.items() if isinstance(value, str | bool | int | float)}
    accelerator.init_trackers("metawarp", config=simple)
    try:
        yield accelerator.log
    finally:
        for tracker in accelerator.trackers:  # `end_training` would also disconnect the processes
            tracker.finish()
