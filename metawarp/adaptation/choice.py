"""Choose for each task how far its adapter moves, and how much class names count.

Each alternative is scored by its loss on held-out texts (`cross_fit`), and the task uses the weighted mean of all
alternatives (Bayesian model averaging). With few texts all weights are similar; with many, the best alternative has
most of the weight. Each alternative is scored at its own best temperature, so that overconfidence alone does not rule
it out.

References:
    Hoeting et al. (1999), "Bayesian Model Averaging: A Tutorial", Statistical Science 14, eq. 1.
    Grünwald (2012), "The Safe Bayesian", ALT, sec. 1: likelihoods to a power below 1 if the model may be wrong.
    Wortsman et al. (2022), "Robust fine-tuning of zero-shot models", CVPR, sec. 3: weights between the start and where
    the steps end are often better than both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from metawarp.adaptation.cross_fit import CrossFit, held_out_logits
from metawarp.adaptation.leave_one_out_steps import read_by_step
from metawarp.adaptation.memory import require_memory
from metawarp.adaptation.own_temperature import at_best_temperatures, relative_logits, trust_in
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
    halves = CrossFit.halves(read_by_step(tasks.without_unlabelled(), 0))
    require_memory(warp, halves.tasks, inner)
    path = trajectory(warp, init, halves.tasks, inner, after_step=after_step)
    alternatives = list(product(EXTENTS, NAME_FACTORS if len(tasks.names) else NAME_FACTORS[:1]))
    extents, factors = torch.tensor(alternatives, device=tasks.n_way.device).unbind(1)
    logits = held_out_logits(warp, init, path, halves, extents, factors)
    query, n_tasks = halves.tasks.query, len(tasks)
    relative = relative_logits(logits, halves, temperature)
    temperatures, losses = at_best_temperatures(relative, query.label, query.task % n_tasks, trust_in(tasks))
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


def with_temperatures(choice: Choice, own: Tensor, tasks: TaskBatch) -> Choice:
    """The choice for T tasks with the temperatures (T,) that their own features suggest; see `own_temperatures`.

    After steps, these are too low, because the features were adapted to the texts that are held out. Those of the
    halves are too high with one text per class, because nothing of a held-out text's class is left but its name. With K
    texts per class, the halves have the weight 1 / (1 + K) in the geometric mean of both.
    """
    shots, _ = tasks.size
    weight = torch.where(choice.n_texts > 0, 1 / (1 + shots), 0.0)
    mean = weight * choice.temperatures.log() + (1 - weight) * own.to(choice.temperatures).log()
    return replace(choice, temperatures=mean.exp())


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
