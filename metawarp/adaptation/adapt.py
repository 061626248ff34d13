"""The inner loop: gradient steps on the support texts of T tasks side by side."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from metawarp.adaptation.inner_steps import InnerSteps
from metawarp.adaptation.leave_one_out_steps import LeaveOneOutSteps
from metawarp.adaptation.memory import require_memory
from metawarp.adaptation.support_steps import SupportSteps
from metawarp.adaptation.temperature import Temperature
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters, mapped
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp

MAX_CACHE_BYTES = 10**8
"""Largest size in bytes of what the steps keep of the layers below the adapter; beyond it, these are computed again."""


def adapt(
    warp: Warp, init: InitParameters, tasks: TaskBatch, inner: InnerLoop, temperature: Temperature | None = None
) -> TaskParameters:
    """The adapted parameters of T tasks: the end of the `trajectory`, with the scale divided by the temperature.

    InputError if the inner loop updates an adapter that no feature depends on; MemoryLimitError if memory is too small.
    """
    require_memory(warp, tasks, inner)
    if warp.lower is not None and warp.cache is None and inner.moving:
        warp = Warp(warp.backbone, warp.config, FeatureCache(MAX_CACHE_BYTES))  # for the layers below the adapter
    with torch.set_grad_enabled(inner.inner_steps > 0):
        reached = trajectory(warp, init, tasks, inner)[-1]
    with torch.no_grad():
        adapted = inner_steps(warp, init, tasks, inner).finish(mapped(reached, torch.Tensor.detach))
    divisor = (temperature or Temperature()).of(tasks.shots.sum(1) / tasks.n_way, tasks.n_way.float())
    return replace(adapted, scale=adapted.scale / divisor.to(adapted.scale))


def inner_steps(warp: Warp, init: InitParameters, tasks: TaskBatch, inner: InnerLoop) -> InnerSteps:
    """The steps of T tasks on the loss of an inner loop."""
    return (LeaveOneOutSteps if inner.leaves_one_out else SupportSteps)(warp, init, tasks, inner)


def trajectory(
    warp: Warp,
    init: InitParameters,
    tasks: TaskBatch,
    inner: InnerLoop,
    *,
    second_order: bool = False,
    batches: Sequence[LabelledTexts] = (),
) -> list[TaskParameters]:
    """The parameters of T tasks before the inner loop and after each of its S steps (S + 1 of them), to be finished by
    the `finish` of their steps.

    Gradients flow from each of them to `init`. A task without support texts keeps its start.

    Args:
        second_order: whether the inner gradients are differentiated too (MAML); otherwise they count as constants
            (first-order MAML, Finn et al., sec. 5.2).
        batches: texts that the steps use in turn; default: the support texts.
    """
    warp.require_readable(inner)
    steps = inner_steps(warp, init, tasks, inner)
    batches = [batch for batch in batches or (tasks.support,) if len(batch)]
    with twice_differentiable(second_order and warp.reads_again(inner)):
        current, support = steps.begin()
        states = [current]
        if not batches:
            return states * (inner.inner_steps + 1)
        # The features of the support texts also serve the first step, and every step if they do not change.
        known = support if len(batches) == 1 and batches[0] is tasks.support else None
        for number in range(inner.inner_steps):
            texts = batches[number % len(batches)]
            features = known if number == 0 or not warp.reads_again(inner) else None
            current = steps.step(current, texts, number, features=features, second_order=second_order)
            states.append(current)
    return states
