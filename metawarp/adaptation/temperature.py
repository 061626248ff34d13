"""The temperature: logits are divided by it, so that probabilities are calibrated.

References:
    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks", ICML, sec. 4.2.
"""

from dataclasses import dataclass

from torch import Tensor

from metawarp.adaptation.task_size import BySize


@dataclass(frozen=True)
class Temperature(BySize):
    """The temperature of a task, whose logarithm depends on the size of the task; see `BySize`.

    One number for all tasks is not enough: class embeddings fitted to more texts are more overconfident.
    """

    LARGEST = 20.0  # exp(20) is far beyond every temperature that has been useful

    def of(self, shots: Tensor, ways: Tensor) -> Tensor:
        """Temperature (T,) of tasks with mean shots K (T,) and ways N (T,)."""
        return self.at(shots, ways).exp()
