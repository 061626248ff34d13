"""Choose for each task how far its adapter moves, how much class names count, and a temperature.

Each alternative is scored by its loss on held-out texts (`cross_fit`), and the task uses the weighted mean of all
alternatives (Bayesian model averaging). With few texts all weights are similar; with many, the best alternative has
most of the weight. Each alternative is scored at its own best temperature, so that overconfidence alone does not rule
it out.

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
from metawarp.adaptation.temperature import Temperature
from metawarp.adaptation.trajectory import Trajectory, trajectory
from metawarp.config import GROUPS, InnerLoop
from metawarp.parameters import InitParameters, TaskParameters, mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

EXTENTS = (0.0, 0.5, 1.0, 1.5)
"""How far a task may move: 0 is the start, 1 where the steps end. The first changes nothing."""

NAME_FACTORS = (1.0, 0.25, 4.0)
"""How many times as much a class name may count as the init says; the first changes nothing."""

TEMPERATURES = tuple(2 ** (i / 4) for i in range(-4, 13))
"""Multiples of the init's temperature that are tried: from 1/2 to 8."""

TEMPERATURE_SPREAD = 0.7
"""Standard deviation of the logarithm of these multiples in the prior, which is log-normal."""

UNTRUSTED_SHOTS = 4.0
"""With K texts per class, the likelihood in the choice of the temperature is raised to the power K / (K + 4), because a
half has fewer texts than the task: with one text per class, it has none of a held-out text's class."""

POWER = 0.2
"""Power of the likelihood of held-out texts. Below 1, because both halves hold the same texts, and because what was
adapted on a half of them is not what the task will use."""


@dataclass(frozen=True)
class Choice:
    """What suits each of T tasks.

    Attributes:
        extents: (T,) how far it moves.
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
    temperature: Temperature,
    after_step: Callable[[], object] = lambda: None,
) -> Choice:
    """What suits each of T tasks, between the `EXTENTS` and between the `NAME_FACTORS`, and a multiple of the init's
    temperature.

    Of a large task, the texts that the first step reads are judged. MemoryLimitError if memory is too small.
    """
    halves = Halves.of(read_by_step(tasks.without_unlabelled(), 0))
    require_memory(warp, halves.tasks, inner)
    path = trajectory(warp, init, halves.tasks, inner, after_step=after_step)
    alternatives = list(product(EXTENTS, NAME_FACTORS if len(tasks.names) else NAME_FACTORS[:1]))
    extents, factors = torch.tensor(alternatives, device=tasks.n_way.device).unbind(1)
    logits = held_out_logits(warp, init, path, halves, extents, factors)
    query, n_tasks = halves.tasks.query, len(tasks)
    usual = temperature.of(*halves.tasks.size).to(logits)[query.task, None]
    shots, _ = tasks.size
    trust = shots / (shots + UNTRUSTED_SHOTS)
    temperatures, losses = at_best_temperatures(logits / usual, query.label, query.task % n_tasks, trust)
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


def interpolated(path: Trajectory, extents: Tensor) -> TaskParameters:
    """The parameters of T tasks so far (T,) between the start and the end of their steps, without gradients."""
    first, last = (mapped(path.states[i], Tensor.detach) for i in (0, -1))
    if len(path.states) == 1 or bool((extents == 1).all()):
        return last

    def between(start: Tensor, end: Tensor) -> Tensor:
        if len(start) != len(extents):
            return start  # tasks share it, so it does not move
        far = extents.view(-1, *[1] * (start.dim() - 1)).to(start)
        return torch.where(far == 0, start, torch.lerp(start, end, far))

    return replace(first, **{name: between(getattr(first, name), getattr(last, name)) for name in GROUPS})


def at_best_temperatures(logits: Tensor, label: Tensor, task: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """The temperature (J, T) that suits each of T tasks best under each of J alternatives, and the sum (J, T) of the
    losses of its texts at it.

    Args:
        logits: logits (J, B, C) of the texts.
        label: (B,) label of each text.
        task: (B,) index of each text's task.
        trust: (T,) power of the likelihood relative to the log-normal prior of the temperature.
    """
    tried = logits.new_tensor(TEMPERATURES)
    losses = torch.stack(
        [cross_entropy((logits / t).movedim(2, 1), label.expand(len(logits), -1), reduction="none") for t in tried]
    )
    sums = losses.new_zeros(*losses.shape[:2], len(trust)).index_add(2, task, losses)
    best = (trust.to(sums) * sums + (tried.log() / TEMPERATURE_SPREAD).square()[:, None, None] / 2).argmin(0)
    return tried[best], sums.gather(0, best[None])[0]
