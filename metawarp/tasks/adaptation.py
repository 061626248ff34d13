"""The record of how a task was adapted, for users to read and to plot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from metawarp.adaptation.adapt import Adapted
from metawarp.config import Adapt


@dataclass(frozen=True)
class Adaptation:
    """How a task was adapted.

    Attributes:
        steps: number of steps that the adapter took.
        losses: inner loss before each step; empty without steps.
        name_factor: how many times as much class names count as the init says.
        seconds: seconds that the adaptation took, the choice included.
        reason: one sentence that says why there were so many steps.
    """

    steps: int
    losses: tuple[float, ...]
    name_factor: float
    seconds: float
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", tuple(self.losses))  # JSON has lists

    @classmethod
    def of(cls, adapted: Adapted, adapt: Adapt) -> Self:
        """The record of one adapted task, and the setting `adapt` of the user."""
        losses, name_factor = tuple(adapted.losses[:, 0].tolist()), float(adapted.choice.name_factors[0])
        return cls(int(adapted.steps[0]), losses, name_factor, adapted.seconds, _reason(adapted, adapt))

    def draw(self, file: str | Path) -> Path:
        """Draw the losses over the steps into a PNG file, with the reason as its title.

        Without matplotlib, the ImportError has the command that installs it.
        """
        from metawarp.evaluation.plots import DPI, HIGHLIGHT, new_figure, plain_axes  # a saved task does not need it

        figure = new_figure(7, 3)
        axes = figure.subplots()
        axes.plot(range(len(self.losses)), self.losses, color=HIGHLIGHT, marker="o", clip_on=False)
        axes.set_title(self.reason, loc="left", fontsize=10)
        axes.set_xlabel("steps taken before")
        axes.set_ylabel("leave-one-out loss")
        plain_axes(axes)
        figure.savefig(file, dpi=DPI)
        return Path(file)


def _reason(adapted: Adapted, adapt: Adapt) -> str:
    choice, steps = adapted.choice, int(adapted.steps[0])
    chosen, n_texts, gain = int(choice.steps[0]), int(choice.n_texts[0]), float(choice.gains_of_steps[0])
    if steps < chosen:
        return "The task keeps the start of the init, because the loss of a step was not finite."
    if n_texts:
        evidence = f"the loss of {n_texts} held-out texts by {gain:.3f}"
        return f"The steps lower {evidence}." if steps else f"The steps do not surely lower {evidence}."
    if steps:
        return f"All {steps} steps were taken, as {'the init was trained to' if adapt == 'auto' else 'was asked for'}."
    if adapt in ("none", 0):
        return "No steps were asked for."
    return "There was nothing to do: the init has no steps, or the task has no labelled texts."
