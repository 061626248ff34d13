"""Engines compute meta-gradients: metawarp itself, all tasks in one pass, or learn2learn, one task at a time."""

from typing import ClassVar, Literal, Protocol, final

from metawarp.config import InnerLoop
from metawarp.meta_learning.learn2learn_engine import Learn2LearnEngine
from metawarp.meta_learning.meta_gradient import MetaBatch, MetaGradient, Method
from metawarp.meta_learning.table import MethodName
from metawarp.parameters import InitParameters

EngineName = Literal["metawarp", "learn2learn"]


class Engine(Protocol):
    """An engine. All engines compute the same meta-gradients."""

    processes_tasks_together: ClassVar[bool]
    """Whether all tasks of a batch share the passes, and their memory."""

    def require(self, method: MethodName, inner: InnerLoop) -> None:
        """Check that the engine supports method and inner loop (InputError) and is installed (ImportError)."""
        ...

    def meta_gradient(self, method: Method, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        """The meta-gradient of a method."""
        ...


@final
class MetawarpEngine:
    """All tasks of a batch in one pass."""

    processes_tasks_together: ClassVar[bool] = True

    def require(self, method: MethodName, inner: InnerLoop) -> None:
        """All of them are supported."""

    def meta_gradient(self, method: Method, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        return method.meta_gradient(init, batch)


ENGINES: dict[EngineName, Engine] = {"metawarp": MetawarpEngine(), "learn2learn": Learn2LearnEngine()}
"""A new engine is one more entry here, and its name in `EngineName`."""
