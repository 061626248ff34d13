"""Adapt T tasks side by side in gradient steps, of whose change each task keeps as much as suits it."""

import logging
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from metawarp.adaptation.choice import Choice, choose, interpolated, unchanged, with_temperatures
from metawarp.adaptation.leave_one_out_steps import TEXTS_PER_STEP
from metawarp.adaptation.memory import require_memory
from metawarp.adaptation.own_temperature import own_temperatures
from metawarp.adaptation.start import ExampleFeatures, pool_parts, read_examples
from metawarp.adaptation.temperature import Temperature
from metawarp.adaptation.trajectory import Trajectory, inner_steps, trajectory
from metawarp.config import GROUPS, InnerLoop
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

logger = logging.getLogger(__name__)

MAX_CACHE_BYTES = 10**8
"""Largest size in bytes of what the steps keep of the layers below the adapter; beyond it, these are computed again."""

SECONDS_TO_BAR = 2.0
"""Seconds after which a progress bar appears."""


@dataclass(frozen=True)
class Adapted:
    """T adapted tasks, and how they came about.

    Attributes:
        parameters: the adapted parameters.
        choice: what was chosen for each task.
        losses: (S, T) inner losses before each step; 0 rows without steps.
        examples: features of the examples under the adapted parameters.
        seconds: seconds that it took.
    """

    parameters: TaskParameters
    choice: Choice
    losses: Tensor
    examples: ExampleFeatures
    seconds: float


def adapt(
    warp: Warp,
    init: InitParameters,
    tasks: TaskBatch,
    inner: InnerLoop,
    temperature: Temperature | None = None,
    *,
    chooses: bool = False,
    progress: bool = False,
) -> Adapted:
    """T tasks after the inner loop, with the scale divided by the temperature.

    A task whose loss is not finite keeps its start, and a warning is logged.

    Args:
        warp: the model.
        init: parameters of the init.
        tasks: the tasks.
        inner: the inner loop.
        temperature: divisor of the logits.
        chooses: whether each task finds its own temperature and, after steps, how far it goes and how much class names
            count; see `own_temperature` and `choice`.
        progress: whether a progress bar appears after `SECONDS_TO_BAR`.

    InputError if the inner loop updates an adapter that no feature depends on; MemoryLimitError if memory is too small.
    """
    began = time.perf_counter()
    require_memory(warp, tasks, inner)
    if warp.lower is not None and warp.cache is None and inner.moving:
        warp = Warp(warp.backbone, warp.config, FeatureCache(MAX_CACHE_BYTES))  # for the layers below the adapter
    steps = inner.inner_steps if len(tasks.support) else 0
    if steps and inner.leaves_one_out and not len(tasks.names) and bool((tasks.shots <= 1).all()):
        logger.info("no step is taken: no class has a second text or a name, so that no text can be left out")
        steps = 0
    if steps and inner.leaves_one_out and (most := int(tasks.shots.sum(1).max())) > TEXTS_PER_STEP:
        logger.info("a step reads at most %d of the %d labelled texts", TEXTS_PER_STEP, most)
    temperature, varies = temperature or Temperature(), chooses and steps > 0
    hidden = None if progress else True  # None: hidden unless standard error is a terminal
    n_parts = len(pool_parts(warp, tasks)) if inner.leaves_one_out else 0  # other losses read the pool at the start
    bar = tqdm(total=(1 + varies) * steps + n_parts, desc="adapting", delay=SECONDS_TO_BAR, leave=False, disable=hidden)
    with bar:
        with torch.set_grad_enabled(steps > 0):
            choice = unchanged(tasks, float(steps > 0))
            if varies:
                choice = choose(warp, init, tasks, inner, temperature, bar.update)
            inner = inner.with_steps(steps)
            path = trajectory(warp, init, tasks, inner, after_step=bar.update)
        choice = _finite(path, choice)
        init = warp.verbalizer.weighing_names(init, choice.name_factors)
        with torch.no_grad():
            moved = interpolated(path, choice.extents)
            adapted, examples = inner_steps(warp, init, tasks, inner).finish(moved, bar.update)
            examples = examples or path.examples or read_examples(warp, adapted, tasks)
    if chooses:
        own = own_temperatures(warp, init, tasks, examples, temperature)
        choice = with_temperatures(choice, own, tasks)
    divisor = temperature.of(*tasks.size) * choice.temperatures
    parameters = replace(adapted, scale=adapted.scale / divisor.to(adapted.scale))
    losses = torch.stack(path.losses) if path.losses else adapted.scale.new_zeros(0, len(tasks))
    return Adapted(parameters, choice, losses, examples, time.perf_counter() - began)


def _finite(path: Trajectory, choice: Choice) -> Choice:
    """The choice, without any change of tasks whose choice, losses or parameters are not finite; a warning is logged
    for these."""
    numbers = choice.extents, choice.name_factors, choice.temperatures, *path.losses
    finite = torch.stack([values.isfinite() for values in numbers]).all(0)
    for name in GROUPS:
        values = getattr(path.states[-1], name)
        finite = finite & values.detach().flatten(1).isfinite().all(1)
    if finite.all():
        return choice
    logger.warning("%d of %d tasks keep their start: their loss is not finite", int((~finite).sum()), len(finite))
    extents = torch.where(finite, choice.extents, 0.0)
    factors, temperatures = (torch.where(finite, values, 1.0) for values in (choice.name_factors, choice.temperatures))
    return replace(choice, extents=extents, name_factors=factors, temperatures=temperatures)
