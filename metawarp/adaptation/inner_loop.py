"""Settings of the inner loop: how many steps, what they move, and how far.

References:
    Li, Zhou, Chen, Li (2017), "Meta-SGD": the learning rate α is learned.
    Antoniou, Edwards, Storkey (2019), "How to train your MAML", ICLR, sec. 4 (LSLR): one learned α for each group of
    parameters and each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from episodes import InputError
from metawarp.model.warp import State, Warp

GROUPS = ("prompt", "rows")
"""What the inner loop can move: the soft tokens (K, d) and the verbalizer rows (C, d) of a task."""

RATES = "log_inner_lr."
"""What the names of the inner learning rates begin with; the group follows."""


@dataclass(frozen=True)
class InnerLoop:
    """How a task is adapted.

    Args:
        steps: gradient steps S on the support set; 0 leaves the prompt and the rows as the init gives them.
        groups: what they move, of `GROUPS`.
        proximal: λ of the term λ/2·‖θ - θ_0‖² that holds a task near the init (Rajeswaran et al., 2019, eq. 3).
    """

    steps: int
    groups: tuple[str, ...]
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"inner steps are {self.steps}; they cannot be negative.")
        if not (math.isfinite(self.proximal) and self.proximal >= 0):
            raise InputError(f"the proximal term has the weight {self.proximal}; it cannot be negative.")
        unknown = sorted(set(self.groups) - set(GROUPS))
        if unknown or (self.steps and not self.groups):
            raise InputError(f"the inner loop moves {list(self.groups)}; it can move one or more of {list(GROUPS)}.")

    @property
    def moving(self) -> tuple[str, ...]:
        """The groups that do move: none without steps."""
        return self.groups if self.steps else ()

    @property
    def moves_prompt(self) -> bool:
        """Whether each task has a prompt of its own."""
        return "prompt" in self.moving

    def with_steps(self, steps: int | None) -> InnerLoop:
        """The same with another number of steps; None: its own."""
        return self if steps is None else replace(self, steps=steps, groups=self.groups if steps else ())


@dataclass(frozen=True)
class InnerRates:
    """Inner learning rates that meta-training starts from.

    Args:
        prompt: of the soft tokens.
        rows: of the verbalizer rows.
        learned: whether they are meta-learned (Meta-SGD, LSLR), or stay as they are (plain MAML).
    """

    prompt: float = 0.1
    rows: float = 0.1
    learned: bool = True

    def __post_init__(self) -> None:
        for group in GROUPS:
            rate = getattr(self, group)
            if not (math.isfinite(rate) and rate > 0):
                raise InputError(f"the inner learning rate of {group} is {rate}; it must be a positive number.")


def inner_lr(state: State, group: str, number: int) -> Tensor:
    """Inner learning rate of a group at a step; steps beyond those learned use the last one."""
    rates = state[RATES + group]
    return rates[min(number, len(rates) - 1)].exp()


def inner_rates(state: State) -> State:
    """Those tensors of an init that are inner learning rates."""
    return {name: tensor for name, tensor in state.items() if name.startswith(RATES)}


def require_prompt(warp: Warp, inner: InnerLoop) -> None:
    """Refuse an inner loop that moves a prompt which nothing reads.

    Raises:
        InputError: there is no prompt, or no part of the read-out depends on it.
    """
    if inner.moves_prompt and not warp.prompt_is_read:
        raise InputError(
            f"the inner loop moves the prompt of each task, and nothing that read-out {warp.config.read_out!r} reads "
            f"with template {warp.config.template!r} depends on one; add soft tokens, and mean or mask to the "
            "read-out, or take a method that moves rows alone, such as anil."
        )


def reads_again(warp: Warp, inner: InnerLoop) -> bool:
    """Whether the backbone reads the texts anew after each step, since what moves is inside of them."""
    return inner.moves_prompt or (inner.steps > 0 and warp.rows_inside)
