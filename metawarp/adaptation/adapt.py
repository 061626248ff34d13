"""The inner loop: gradient steps on the support texts of T tasks side by side.

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, eq. 1: θ' = θ - α·∇L_support(θ).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metawarp.adaptation.memory import require_memory
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.adaptation.temperature import Temperature
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import Group, InnerLoop
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


def adapt(
    warp: Warp, init: InitParameters, tasks: TaskBatch, inner: InnerLoop, temperature: Temperature | None = None
) -> TaskParameters:
    """The adapted parameters of T tasks: the end of the `trajectory`, with the scale divided by the temperature.

    InputError if the inner loop updates an adapter that no feature depends on; MemoryLimitError if memory is too small.
    """
    require_memory(warp, tasks, inner)
    with torch.set_grad_enabled(inner.inner_steps > 0):
        adapted = trajectory(warp, init, tasks, inner)[-1]
    divisor = (temperature or Temperature()).of(tasks.shots.sum(1) / tasks.n_way, tasks.n_way.float())
    return replace(adapted, scale=adapted.scale / divisor.to(adapted.scale))


def trajectory(
    warp: Warp,
    init: InitParameters,
    tasks: TaskBatch,
    inner: InnerLoop,
    *,
    second_order: bool = False,
    batches: Sequence[LabelledTexts] = (),
) -> list[TaskParameters]:
    """The parameters of T tasks before the inner loop and after each of its S steps (S + 1 of them).

    Gradients flow from each of them to `init`. A task without support texts keeps its start.

    Args:
        second_order: whether the inner gradients are differentiated too (MAML); otherwise they count as constants
            (first-order MAML, Finn et al., sec. 5.2).
        batches: texts that the steps use in turn; default: the support texts.
    """
    warp.require_readable(inner)
    batches = [batch for batch in batches or (tasks.support,) if len(batch)]
    with twice_differentiable(second_order and warp.reads_again(inner)):
        current, support = start(warp, init, tasks, inner.moving)
        states = [current]
        if not batches:
            return states * (inner.inner_steps + 1)
        # The features of the support texts also serve the first step, and every step if they do not change.
        known = support if len(batches) == 1 and batches[0] is tasks.support else None
        for number in range(inner.inner_steps):
            texts = batches[number % len(batches)]
            features = known if number == 0 or not warp.reads_again(inner) else None
            current = step(
                warp, init, current, texts, tasks, inner, number, features=features, second_order=second_order
            )
            states.append(current)
    return states


def step(
    warp: Warp,
    init: InitParameters,
    current: TaskParameters,
    texts: LabelledTexts,
    tasks: TaskBatch,
    inner: InnerLoop,
    number: int,
    *,
    features: Tensor | None = None,
    second_order: bool = False,
) -> TaskParameters:
    """The parameters of T tasks after one gradient step: θ - α·∇L(θ) for each group.

    Args:
        init: parameters of the init, with the inner learning rates α.
        current: parameters before the step.
        texts: texts of the loss.
        number: index of the step, from 0.
        features: features of the texts under the current parameters, if they are known.
        second_order: whether the gradients will be differentiated.
    """
    features = read_texts(warp, current, texts) if features is None else features
    # The first class embeddings are functions of features under the same adapter. The adapter's partial derivative
    # holds them fixed, so it is taken in two stages: loss → features, features → parameters that they depend on.
    through: list[Group] = [group for group in inner.updates if group in warp.read_out.depends_on]
    direct: list[Group] = [group for group in inner.updates if group not in through]
    groups: tuple[Group, ...] = (*direct, *through)
    copied = features.clone()
    variables = [getattr(current, group) for group in direct] + ([copied] if through else [])
    loss = losses_of(warp, current, copied, texts, tasks).sum()
    gradients = list(torch.autograd.grad(loss, variables, create_graph=second_order))
    if through:
        outputs, variables = [features], [getattr(current, group) for group in through]
        of_features = [gradients.pop()]
        gradients += torch.autograd.grad(outputs, variables, of_features, retain_graph=True, create_graph=second_order)
    updated: dict[str, Tensor] = {}
    for group, gradient in zip(groups, gradients, strict=True):
        gradient = gradient if second_order else gradient.detach()
        updated[group] = getattr(current, group) - init.inner_lr(group, number) * gradient
    return replace(current, **updated)
