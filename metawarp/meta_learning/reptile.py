"""Reptile: the init moves towards the adapters of adapted tasks.

References:
    Nichol, Achiam, Schulman (2018), "On First-Order Meta-Learning Algorithms", algorithm 2 and eq. 3.
"""

from dataclasses import dataclass, replace
from typing import final

import torch

from metawarp.adaptation.trajectory import inner_steps, trajectory
from metawarp.config import InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, MetaGradient, Method, query_losses, zero_gradients
from metawarp.parameters import InitParameters


@final
@dataclass(frozen=True)
class Reptile(Method):
    """θ - θ_S for the adapter, averaged over tasks: the direction from the adapted adapters back to the init.

    The steps use query and support texts in turn, because Reptile trains on a task's texts without splitting them.
    Scale, read-out weights, verbalizer scalars and inner learning rates keep their start. Loss weights have no effect.
    """

    needs_adapter_lr = True

    inner: InnerLoop

    def meta_gradient(self, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        texts = (batch.tasks.query, batch.tasks.support)
        states = trajectory(batch.warp, init, batch.tasks, batch.inner, batches=texts).states
        with torch.no_grad():
            finished, _ = inner_steps(batch.warp, init, batch.tasks, batch.inner).finish(states[-1])
            losses, correct = query_losses(batch.warp, finished, batch.tasks)
            direction = (states[0].adapter - states[-1].adapter).mean(0)
        return MetaGradient(replace(zero_gradients(init), adapter=direction), losses, correct)
