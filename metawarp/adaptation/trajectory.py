"""The inner loop of T tasks: gradient steps on their support texts, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from metawarp.adaptation.inner_steps import InnerSteps
from metawarp.adaptation.leave_one_out_steps import LeaveOneOutSteps
from metawarp.adaptation.start import ExampleFeatures
from metawarp.adaptation.support_steps import SupportSteps
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


@dataclass(frozen=True)
class Trajectory:
    """The parameters of T tasks along an inner loop of S steps.

    Attributes:
        states: S + 1 parameters, before the first step and after each; to be finished by `InnerSteps.finish`.
        losses: S inner losses (T,), before each step; none for tasks without support texts.
        examples: features of the examples under the last state; None if they were not read.
    """

    states: list[TaskParameters]
    losses: list[Tensor]
    examples: ExampleFeatures | None = None


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
    after_step: Callable[[], object] = lambda: None,
) -> Trajectory:
    """The parameters of T tasks before the inner loop and after each of its S steps.

    Gradients flow from each of them to `init`. A task without support texts keeps its start.

    Args:
        second_order: whether the inner gradients are differentiated too (MAML); otherwise they count as constants
            (first-order MAML, Finn et al., sec. 5.2).
        batches: texts that the steps use in turn; default: the support texts.
        after_step: called after each step, such as the update of a progress bar.
    """
    warp.require_readable(inner)
    steps = inner_steps(warp, init, tasks, inner)
    batches = [batch for batch in batches or (tasks.support,) if len(batch)]
    with twice_differentiable(second_order and warp.reads_again(inner)):
        current, examples = steps.begin()
        states, losses = [current], []
        if not batches:
            return Trajectory(states * (inner.inner_steps + 1), losses, examples)
        # The features of the support texts also serve the first step, and every step if they do not change.
        support = examples and examples.support
        known = support if len(batches) == 1 and batches[0] is tasks.support else None
        for number in range(inner.inner_steps):
            texts = batches[number % len(batches)]
            features = known if number == 0 or not warp.reads_again(inner) else None
            current, loss = steps.step(current, texts, number, features=features, second_order=second_order)
            states.append(current)
            losses.append(loss)
            after_step()
        are_the_same = not losses or not warp.reads_again(inner)
    return Trajectory(states, losses, examples if are_the_same else None)
