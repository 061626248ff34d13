"""The record of how a task was adapted, for users to read and to plot."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Self

from episodes.schemas import Strict
from metawarp.adaptation.adapt import Adapted
from metawarp.config import Adapt
from metawarp.evaluation.plots import HIGHLIGHT, new_figure, plain_axes, save_figure

LINE_WIDTH = 90
"""Largest number of characters on a line of a figure's title."""


@dataclass(frozen=True)
class Adaptation(Strict):
    """How a task was adapted.

    Attributes:
        steps: number of gradient steps; 0 if the encoder was not adapted.
        extent: fraction of the change of the parameters that was kept, 0 to 1.5; 1 is the change of all steps.
        losses: inner loss before each step; empty if there was none.
        name_factor: factor by which the weight of class names was multiplied, relative to the init.
        temperature: additional temperature of this task; its logits are divided by it and by that of the init.
        seconds: seconds that the adaptation took, with the cross-validation.
        reason: one or two sentences that say what was done and why.
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
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(fill(self.reason, LINE_WIDTH), loc="left", fontsize=9)
        axes.set_xlabel("step")
        axes.set_ylabel("inner loss before the step")
        plain_axes(axes)
        return save_figure(figure, file)


def _reason(adapted: Adapted, adapt: Adapt) -> str:
    choice, steps = adapted.choice, len(adapted.losses)
    extent, n_texts, gain = float(choice.extents[0]), int(choice.n_texts[0]), float(choice.gains[0])
    if steps and not extent:
        return "The encoder was not adapted, because the loss of a step was not finite."
    if n_texts and steps:
        kept = f"The encoder was adapted with {steps} gradient steps, and {extent:.0%} of the change was kept"
        effect = f"this {'lowered' if gain >= 0 else 'raised'} the mean loss by {abs(gain):.3f}"
        doubt = "" if gain >= 0 else '; if accuracy matters, compare with adapt="none" on more texts'
        return f"{kept}. In cross-validation on {n_texts} examples, {effect}{doubt}."
    if steps:
        number = "the number that the init was trained with" if adapt == "auto" else "as requested"
        return f"The encoder was adapted with {steps} gradient steps, {number}."
    if adapt in ("none", 0):
        return "The encoder was not adapted, as requested."
    return "The encoder was not adapted: the init takes no gradient steps, or no example can be left out."
