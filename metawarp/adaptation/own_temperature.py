"""The temperature that suits a task, from held-out texts of its own.

The temperature of an init is right for tasks like those that it was trained on. Classes that overlap more than theirs
need a higher one, and classes that are far apart a lower one.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, sec. 4.2: the temperature of
    held-out texts.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metawarp.adaptation.cross_fit import CrossFit, folds
from metawarp.adaptation.start import ExampleFeatures
from metawarp.adaptation.temperature import Temperature
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

OCTAVE = 4
"""Number of temperatures that are tried between one and its double."""

TEMPERATURES = tuple(2 ** (i / OCTAVE) for i in range(-4, 13))
"""Multiples of the init's temperature that are tried: from 1/2 to 8."""

TEMPERATURE_SPREAD = 0.7
"""Standard deviation of the logarithm of these multiples in the prior, which is log-normal."""

MAX_POOL = 1000
"""Largest number of unlabelled texts of a task in these fits, so that they take less time than that of the task."""

UNTRUSTED_SHOTS = 4.0
"""With K texts per class, the likelihood in the choice of the temperature is raised to the power K / (K + 4), because
what is fitted without some texts has fewer of them than the task."""


@torch.no_grad()
def own_temperatures(
    warp: Warp, init: InitParameters, tasks: TaskBatch, examples: ExampleFeatures, temperature: Temperature
) -> Tensor:
    """The multiple (T,) of the init's temperature that suits each of T tasks; 1 if no text can be held out.

    No text is read: class embeddings are fitted again, to parts of the features of the examples.
    """
    tasks, examples = _with_smaller_pools(tasks, examples)
    label, task, parts = tasks.support.label[:0], tasks.support.task[:0], []
    if examples.support is not None:
        is_named = (tasks.has_name | ~tasks.class_mask).all(1)
        for fold in folds(tasks, is_named & (examples.names is not None)):
            parts.append(relative_logits(fold.logits(warp, init, examples), fold, temperature))
            query = fold.tasks.query
            label, task = torch.cat([label, query.label]), torch.cat([task, query.task])
    logits = torch.cat(parts) if parts else tasks.shots[label]
    return at_best_temperatures(logits[None], label, task, trust_in(tasks))[0][0]


def _with_smaller_pools(tasks: TaskBatch, examples: ExampleFeatures) -> tuple[TaskBatch, ExampleFeatures]:
    """T tasks with evenly spaced unlabelled texts, at most `MAX_POOL` of each task."""
    pool = tasks.unlabelled
    if examples.unlabelled is None or len(pool) <= MAX_POOL:
        return tasks, examples
    spacing = torch.bincount(pool.task, minlength=len(tasks)).div(MAX_POOL).ceil().clamp(min=1)
    (rows,) = torch.where(pool.index_in_task % spacing[pool.task] == 0)
    return replace(tasks, unlabelled=pool.select(rows)), replace(examples, unlabelled=examples.unlabelled[rows])


def relative_logits(logits: Tensor, cross_fit: CrossFit, temperature: Temperature) -> Tensor:
    """Logits (…, B, C) of held-out texts, divided by the init's temperature for tasks of the size that is left."""
    tasks = cross_fit.tasks
    return logits / temperature.of(*tasks.size).to(logits)[tasks.query.task, None]


def trust_in(tasks: TaskBatch) -> Tensor:
    """(T,) power of the likelihood of the held-out texts of each of T tasks."""
    shots, _ = tasks.size
    return shots / (shots + UNTRUSTED_SHOTS)


def at_best_temperatures(logits: Tensor, label: Tensor, task: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """The temperature (J, T) that suits each of T tasks best under each of J alternatives, and the sum (J, T) of the
    losses of its texts at the nearest of the `TEMPERATURES`.

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
    scores = trust.to(sums) * sums + (tried.log() / TEMPERATURE_SPREAD).square()[:, None, None] / 2
    best = scores.argmin(0)
    # Around the best one, the score is nearly a parabola of the logarithm, which has its minimum between two of them.
    middle = best.clamp(1, len(tried) - 2)
    before, at, after = (scores.gather(0, (middle + step)[None])[0] for step in (-1, 0, 1))
    bend = (before - 2 * at + after).clamp(min=torch.finfo(scores.dtype).tiny)
    shift = ((before - after) / (2 * bend)).clamp(-1, 1)
    return tried[middle] * 2 ** (shift / OCTAVE), sums.gather(0, best[None])[0]
