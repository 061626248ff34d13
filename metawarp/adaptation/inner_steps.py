"""What the steps of an inner loop are: where they begin, one step, and what is computed at the end."""

from typing import Protocol

from torch import Tensor

from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


class InnerSteps(Protocol):
    """The steps for one kind of inner loss. Gradients flow from their results to the init."""

    def begin(
        self, warp: Warp, init: InitParameters, tasks: TaskBatch, inner: InnerLoop
    ) -> tuple[TaskParameters, Tensor | None]:
        """The parameters of T tasks before the first step, and the features of their support texts if they were
        read."""
        ...

    def step(
        self,
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
        """The parameters of T tasks after one step.

        Args:
            warp: the model.
            init: parameters of the init, with the inner learning rates.
            current: parameters before the step.
            texts: texts of the loss.
            tasks: the tasks.
            inner: the inner loop.
            number: index of the step, from 0.
            features: features of the texts under the current parameters, if they are known.
            second_order: whether the gradients will be differentiated.
        """
        ...

    def finish(self, warp: Warp, init: InitParameters, current: TaskParameters, tasks: TaskBatch) -> TaskParameters:
        """The parameters that T tasks predict with, from those after the last step."""
        ...
