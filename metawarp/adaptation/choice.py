"""How far each task moves from the start, how much its class names count and how confident it is: its own texts choose.

The alternatives are compared by the losses of held-out texts (`cross_fit`). A few texts say little, and confidence is
what they say first, so each alternative is judged at the temperature that suits it best.

References:
    Wortsman et al. (2022), "Robust fine-tuning of zero-shot models", CVPR, sec. 3: weights between the start and where
    the steps end are often better than both. Guo et al. (2017), ICML, sec. 4.2: the temperature of held-out texts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metawarp.adaptation.cross_fit import crossed_halves, query_logits
from metawarp.adaptation.leave_one_out_steps import read_by_step
from metawarp.adaptation.memory import require_memory
from metawarp.adaptation.trajectory import Trajectory, trajectory
from metawarp.config import GROUPS, InnerLoop
from metawarp.parameters import InitParameters, TaskParameters, mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

EXTENTS = (0.0, 0.5, 1.0, 1.5)
"""How far a task may go along its way: 0 is the start, 1 where the steps end. The first changes nothing."""

NAME_FACTORS = (1.0, 0.25, 4.0)
"""How many times as much a class name may count as the init says; the first changes nothing."""

TEMPERATURES = tuple(2 ** (i / 4) for i in range(-4, 13))
"""Divisors of the logits that are tried: from 1/2 to 8."""

TEMPERATURE_SPREAD = 0.7
"""Standard deviation of the logarithm of a task's temperature, before its texts are seen."""

STANDARD_ERRORS = 0.5
"""An alternative must gain more than so many standard errors of its gain."""


@dataclass(frozen=True)
class Choice:
    """What suits each of T tasks.

    Attributes:
        extents: (T,) how far it goes along its way.
        name_factors: (T,) how many times as much class names count.
        temperatures: (T,) further divisor of its logits.
        gains: (T,) by how much extent and names lower the mean loss of held-out texts; 0 where neither is changed.
        n_texts: (T,) number of held-out texts; 0 if nothing was tried.
    """

    extents: Tensor
    name_factors: Tensor
    temperatures: Tensor
    gains: Tensor
    n_texts: Tensor


def choose(
    warp: Warp,
    init: InitParameters,
    tasks: TaskBatch,
    inner: InnerLoop,
    after_step: Callable[[], object] = lambda: None,
) -> Choice:
    """What suits each of T tasks: one of the `EXTENTS`, one of the `NAME_FACTORS`, and a temperature.

    Of a large task, the texts that the first step reads are judged. MemoryLimitError if memory is too small.
    """
    crossed = crossed_halves(read_by_step(tasks, 0))
    require_memory(warp, crossed, inner)
    way = trajectory(warp, init, crossed, inner, after_step=after_step)
    factors = NAME_FACTORS if len(tasks.names) else NAME_FACTORS[:1]
    inits = [warp.verbalizer.weighing_names(init, factor) for factor in factors]
    places = [place_on(way, torch.full_like(crossed.n_way, extent, dtype=torch.float32)) for extent in EXTENTS]
    logits = torch.cat([query_logits(warp, inits, place, crossed) for place in places])
    task = crossed.query.task % len(tasks)
    temperatures, losses = at_best_temperatures(logits, crossed.query.label, task, len(tasks))
    best, gains, count = best_alternative(losses, task, len(tasks))
    alternatives = gains.new_tensor([(extent, factor) for extent in EXTENTS for factor in factors])
    extents, name_factors = alternatives[best].unbind(1)
    temperature, gain = (values.gather(0, best[None])[0] for values in (temperatures, gains))
    return Choice(extents, name_factors, temperature, gain, count.long())


def unchanged(tasks: TaskBatch, extent: float) -> Choice:
    """The same extent for each of T tasks, with class names and confidence as the init says."""
    zeros = torch.zeros(len(tasks), device=tasks.n_way.device)
    return Choice(zeros + extent, zeros + 1, zeros + 1, zeros, torch.zeros_like(tasks.n_way))


def place_on(way: Trajectory, extents: Tensor) -> TaskParameters:
    """The parameters of T tasks that go so far (T,) along their way, without gradients."""
    first, last = (mapped(way.states[i], Tensor.detach) for i in (0, -1))
    if len(way.states) == 1 or bool((extents == 1).all()):
        return last

    def between(start: Tensor, end: Tensor) -> Tensor:
        if len(start) != len(extents):
            return start  # tasks share it, so it does not move
        far = extents.view(-1, *[1] * (start.dim() - 1)).to(start)
        return torch.where(far == 0, start, torch.lerp(start, end, far))

    return replace(first, **{name: between(getattr(first, name), getattr(last, name)) for name in GROUPS})


def at_best_temperatures(logits: Tensor, label: Tensor, task: Tensor, n_tasks: int) -> tuple[Tensor, Tensor]:
    """The temperature (J, T) that suits each of T tasks best under each of J alternatives, and the losses (J, B) of B
    texts at it.

    Args:
        logits: logits (J, B, C) of the texts.
        label: (B,) label of each text.
        task: (B,) index of each text's task.
        n_tasks: number T of tasks.
    """
    tried = logits.new_tensor(TEMPERATURES)
    losses = torch.stack(
        [cross_entropy((logits / t).movedim(2, 1), label.expand(len(logits), -1), reduction="none") for t in tried]
    )
    sums = losses.new_zeros(*losses.shape[:2], n_tasks).index_add(2, task, losses)
    best = (sums + (tried.log() / TEMPERATURE_SPREAD).square()[:, None, None] / 2).argmin(0)
    return tried[best], losses.gather(0, best[:, task][None])[0]


def best_alternative(losses: Tensor, task: Tensor, n_tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index (T,) of the alternative that surely gains most; 0 if no other gains.

    Also returns the mean gains (J, T) of the J alternatives, and the number of texts (T,) of each task.

    Args:
        losses: losses (J, B) of B held-out texts under each alternative; the first changes nothing.
        task: (B,) index of each text's task.
        n_tasks: number T of tasks.
    """
    gains, count = losses[:1] - losses, torch.bincount(task, minlength=n_tasks).to(losses)

    def mean(values: Tensor) -> Tensor:
        return values.new_zeros(len(values), n_tasks).index_add(1, task, values) / count.clamp(min=1)

    means = mean(gains)
    errors = (mean((gains - means[:, task]).square()) / (count - 1).clamp(min=1)).sqrt()
    surely = torch.where(count < 2, 0.0, means - STANDARD_ERRORS * errors)
    return surely.argmax(0), means, count
