"""How each task is adapted, chosen by its own texts: in how many steps, and how much class names count.

The alternatives are compared by the losses of held-out texts (`cross_fit`). What the init does without steps is left
only where the lower end of the interval of the gain says so, because a few texts say little, and a task must not become
worse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metawarp.adaptation.cross_fit import crossed_halves, query_losses
from metawarp.adaptation.leave_one_out_steps import some_classes
from metawarp.adaptation.trajectory import trajectory
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

NAME_FACTORS = (1.0, 0.25, 4.0)
"""Numbers of times that a class name may count as much as the init says; the first changes nothing."""

STANDARD_ERRORS = 1.0
"""Lower end of a gain: its mean, minus so many of its standard errors."""


@dataclass(frozen=True)
class Choice:
    """What suits each of T tasks.

    Attributes:
        steps: (T,) number of steps.
        name_factors: (T,) how many times as much class names count.
        gains: (T,) by how much this lowers the mean loss of held-out texts; 0 where nothing is changed.
        gains_of_steps: (T,) by how much all steps alone change it.
        n_texts: (T,) number of held-out texts.
    """

    steps: Tensor
    name_factors: Tensor
    gains: Tensor
    gains_of_steps: Tensor
    n_texts: Tensor


def choose(
    warp: Warp,
    init: InitParameters,
    tasks: TaskBatch,
    inner: InnerLoop,
    after_step: Callable[[], object] = lambda: None,
) -> Choice:
    """What suits each of T tasks: all steps of the inner loop or none, and one of the `NAME_FACTORS`.

    Of a task with many classes, the texts of the first classes that a step reads are judged.
    """
    crossed = crossed_halves(some_classes(tasks, 0))
    way = trajectory(warp, init, crossed, inner, after_step=after_step).states
    factors = NAME_FACTORS if len(tasks.names) else NAME_FACTORS[:1]
    inits = [warp.verbalizer.weighing_names(init, factor) for factor in factors]
    alternatives = [(steps, factor) for steps in (0, inner.inner_steps) for factor in factors]
    states = (mapped(way[steps], Tensor.detach) for steps in (0, inner.inner_steps))
    losses = torch.cat([query_losses(warp, inits, state, crossed) for state in states])
    best, gains, count = best_alternative(losses, crossed.query.task % len(tasks), len(tasks))
    steps, chosen_factors = (gains.new_tensor(column)[best] for column in zip(*alternatives, strict=True))
    return Choice(steps.long(), chosen_factors, gains.gather(0, best[None])[0], gains[len(factors)], count.long())


def unchanged(tasks: TaskBatch, steps: int) -> Choice:
    """The same number of steps for each of T tasks, with class names that count as the init says."""
    zeros = torch.zeros(len(tasks), device=tasks.n_way.device)
    return Choice(torch.full_like(tasks.n_way, steps), zeros + 1, zeros, zeros, torch.zeros_like(tasks.n_way))


def best_alternative(losses: Tensor, task: Tensor, n_tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index (T,) of the alternative with the highest lower end of its gain; 0 if no other gains.

    Also returns the mean gains (J, T) of the J alternatives, and the number of texts (T,) of each task.

    Args:
        losses: losses (J, B) of B held-out texts under each alternative; the first changes nothing.
        task: (B,) index of each text's task.
        n_tasks: number T of tasks.
    """
    gains = losses[:1] - losses

    def mean(values: Tensor) -> Tensor:
        return values.new_zeros(len(values), n_tasks).index_add(1, task, values) / count.clamp(min=1)

    count = torch.bincount(task, minlength=n_tasks).to(gains)
    means = mean(gains)
    variances = mean((gains - means[:, task]).square()) * count / (count - 1).clamp(min=1)
    lower = means - STANDARD_ERRORS * (variances / count.clamp(min=1)).sqrt()
    lower[:, count < 2] = 0
    lower[0] = 0
    return lower.argmax(0), means, count
