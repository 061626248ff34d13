"""Regularizers of an init by name: losses of what it predicts, or reads, before any inner loop."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from metawarp.meta_learning.scal import scal
from metawarp.meta_learning.sift import sift
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

RegularizerName = Literal["sift", "scal"]


Regularizer = Callable[[Warp, InitParameters, TaskBatch, float], Tensor]
"""A loss () that is added to the outer loss, the mean over T tasks; gradients flow back to the init. The number is the
length of the perturbation of a token, relative to the token embedding."""

REGULARIZERS: dict[RegularizerName, Regularizer] = {"sift": sift, "scal": scal}
"""A new regularizer is one more entry here, and its name in `RegularizerName`."""
