"""The files of a saved task, and what its config.json holds."""

from dataclasses import dataclass

from episodes import InputError
from metawarp.config import Adapt
from metawarp.inits.file import INIT_FILES, BackboneIdentity
from metawarp.inits.storage import Header
from metawarp.tasks.adaptation import Adaptation
from metawarp.tasks.examples import UNKNOWN

INIT_FOLDER = "fitted_from"
"""Subfolder of a saved task with the init that it was fitted from."""

TASK_FILES = ("task.safetensors", "config.json", *(f"{INIT_FOLDER}/{name}" for name in INIT_FILES))
"""The files of a saved task."""


@dataclass(frozen=True)
class TaskFile(Header):
    """The config.json of a saved task; `inner_steps` is what earlier releases wrote in place of `adapt`."""

    classes: list[bool | int | float | str]
    class_names: list[str]
    init_sha256: str
    backbone: BackboneIdentity
    adapt: Adapt | None = None
    inner_steps: int | None = None
    adaptation: Adaptation | None = None
    label_type: str | None = None
    has_unknown: bool = False
    reject: float | None = None
    unknown: bool | int | float | str = UNKNOWN

    def __post_init__(self) -> None:
        if isinstance(self.adapt, int) and self.adapt < 0:
            raise InputError(f"adapt={self.adapt} must be at least 0.")
        if not all(name.strip() for name in self.class_names):
            raise InputError("it has a class without a name; fit the task again.")
        require_probability(self.reject)

    @property
    def adapt_of_any_release(self) -> Adapt:
        """How the task was adapted."""
        steps: Adapt = "auto" if self.inner_steps is None else self.inner_steps
        return steps if self.adapt is None else self.adapt


def require_probability(reject: float | None) -> None:
    """Check the probability of being known below which a text is called unknown; InputError if it is none."""
    if reject is not None and not (isinstance(reject, int | float) and 0 <= reject <= 1):
        raise InputError(f"reject={reject!r} must be a probability from 0 to 1, or None to reject no text.")
