"""The record of how a task was adapted, for users to read and to plot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from episodes.schemas import Strict
from metawarp.adaptation.adapt import Adapted
from metawarp.config import Adapt
from metawarp.evaluation.plots import HIGHLIGHT, new_figure, plain_axes, save_figure


@dataclass(frozen=True)
class Adaptation(Strict):
    """How a task was adapted.

    Attributes:
        steps: number of steps that the adapter took; 0 if it kept the start.
        extent: how much of the change of the steps it kept: 1 is all of it, 0.5 half.
        losses: inner loss before each step; empty if none was taken.
        name_factor: how many times as much class names count as the init says.
        temperature: what the logits were divided by, beside the temperature of the init.
        seconds: seconds that the adaptation took, the choice included.
        reason: one sentence that says why it went so far.
    """

    steps: int
    extent: float
    losses: tuple[float, ...]
    name_factor: float
    temperature: float
    seconds: float
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", tuple(self.losses))  # JSON has lists

    @classmethod
    def of(cls, adapted: Adapted, adapt: Adapt) -> Self:
        """The record of one adapted task, and the setting `adapt` of the user."""
        choice, losses = adapted.choice, tuple(adapted.losses[:, 0].tolist())
        values = (float(value[0]) for value in (choice.extents, choice.name_factors, choice.temperatures))
        extent, name_factor, temperature = values
        steps, reason = len(losses) if extent else 0, _reason(adapted, adapt)
        return cls(steps, extent, losses, name_factor, temperature, adapted.seconds, reason)

    def draw(self, file: str | Path) -> Path:
        """Draw the losses over the steps into a PNG file, with the reason as its title.

        Without matplotlib, the ImportError has the command that installs it.
        """
        figure = new_figure(7, 3)
        axes = figure.subplots()
        axes.plot(range(len(self.losses)), self.losses, color=HIGHLIGHT, marker="o", clip_on=False)
        axes.set_title(self.reason, loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel("inner loss before the step")
        plain_axes(axes)
        return save_figure(figure, file)


def _reason(adapted: Adapted, adapt: Adapt) -> str:
    choice, steps = adapted.choice, len(adapted.losses)
    extent, n_texts, gain = float(choice.extents[0]), int(choice.n_texts[0]), float(choice.gains[0])
    if steps and not extent:
        return "The task keeps the start of the init: the loss of a step was not finite."
    if n_texts and steps:
        effect = f"they {'lower' if gain >= 0 else 'raise'} the loss by {abs(gain):.3f} in the mean"
        return f"The task keeps {extent:.0%} of the change of {steps} steps: on {n_texts} held-out texts, {effect}."
    if steps:
        return f"All {steps} steps were taken, as {'the init was trained to' if adapt == 'auto' else 'was asked for'}."
    if adapt in ("none", 0):
        return "No steps were asked for."
    return "There was nothing to do: the init has no steps, or no labelled text can be left out."
