"""What the steps of an inner loop are: where they begin, one step, and what is computed at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from metawarp.adaptation.start import ExampleFeatures
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


@dataclass(frozen=True)
class InnerSteps(ABC):
    """The steps of T tasks on one kind of inner loss. Gradients flow from their results to the init.

    Attributes:
        warp: the model.
        init: parameters of the init, with the inner learning rates.
        tasks: the tasks.
        inner: the inner loop.
    """

    warp: Warp
    init: InitParameters
    tasks: TaskBatch
    inner: InnerLoop

    @abstractmethod
    def begin(self) -> tuple[TaskParameters, ExampleFeatures | None]:
        """The parameters before the first step, and the features of the examples if they were read."""

    @abstractmethod
    def step(
        self,
        current: TaskParameters,
        texts: LabelledTexts,
        number: int,
        *,
        features: Tensor | None = None,
        second_order: bool = False,
    ) -> tuple[TaskParameters, Tensor]:
        """The parameters after one step, and the loss (T,) of each task before it, without a gradient.

        Args:
            current: parameters before the step.
            texts: texts of the loss.
            number: index of the step, from 0.
            features: features of the texts under the current parameters, if they are known.
            second_order: whether the gradients will be differentiated.
        """

    @abstractmethod
    def finish(
        self, current: TaskParameters, after_read: Callable[[], object] = lambda: None
    ) -> tuple[TaskParameters, ExampleFeatures | None]:
        """The parameters that the tasks predict with, from those after the last step, and the features of the examples
        if they were read; `after_read` is called after each part of their unlabelled texts."""
