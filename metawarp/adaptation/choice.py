"""How far each task moves from the start, how much its class names count and how confident it is: its own texts say.

Alternatives are weighed by the losses of held-out texts (`cross_fit`), as in Bayesian model averaging, and the task
goes to their mean. A few texts move it little from the mean of all alternatives, many texts to the best of them.
Confidence is what a few texts say first, so each alternative is judged at the temperature that suits it best.

References:
    Hoeting et al. (1999), "Bayesian Model Averaging: A Tutorial", Statistical Science 14, eq. 1.
    Grünwald (2012), "The Safe Bayesian", ALT, sec. 1: likelihoods to a power below 1 if the model may be wrong.
    Wortsman et al. (2022), "Robust fine-tuning of zero-shot models", CVPR, sec. 3: weights between the start and where
    the steps end are often better than both. Guo et al. (2017), ICML, sec. 4.2: the temperature of held-out texts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metawarp.adaptation.cross_fit import Halves, held_out_logits
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

POWER = 0.2
"""Power of the likelihood of held-out texts. Below 1, because both halves hold the same texts, and because what was
adapted on a half of them is not what the task will use."""


@dataclass(frozen=True)
class Choice:
    """What suits each of T tasks.

    Attributes:
        extents: (T,) how far it goes along its way.
        name_factors: (T,) how many times as much class names count.
        temperatures: (T,) further divisor of its logits.
        gains: (T,) by how much this lowers the mean loss of held-out texts, in the mean of the alternatives.
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
    """What suits each of T tasks, between the `EXTENTS` and between the `NAME_FACTORS`, and a temperature.

    Of a large task, the texts that the first step reads are judged. MemoryLimitError if memory is too small.
    """
    halves = Halves.of(read_by_step(tasks, 0))
    require_memory(warp, halves.tasks, inner)
    way = trajectory(warp, init, halves.tasks, inner, after_step=after_step)
    alternatives = list(product(EXTENTS, NAME_FACTORS if len(tasks.names) else NAME_FACTORS[:1]))
    extents, factors = torch.tensor(alternatives, device=tasks.n_way.device).unbind(1)
    logits = held_out_logits(warp, init, way, halves, extents, factors)
    query, n_tasks = halves.tasks.query, len(tasks)
    temperatures, losses = at_best_temperatures(logits, query.label, query.task % n_tasks, n_tasks)
    weights = (-POWER * losses).softmax(0)
    count = torch.bincount(query.task % n_tasks, minlength=n_tasks)
    return Choice(
        weights.mT @ extents.to(weights),
        (weights.mT @ factors.to(weights).log()).exp(),
        (weights * temperatures.log()).sum(0).exp(),
        (weights * (losses[:1] - losses)).sum(0) / count.clamp(min=1),
        count,
    )


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
    """The temperature (J, T) that suits each of T tasks best under each of J alternatives, and the sum (J, T) of the
    losses of its texts at it.

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
    return tried[best], sums.gather(0, best[None])[0]
