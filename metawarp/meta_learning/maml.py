"""MAML and its relatives, whose meta-gradient passes through the inner loop.

References:
    maml, fomaml: Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, algorithm 1 and sec. 5.2.
    anil: Raghu et al. (2020), "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML", ICLR,
    sec. 4. prototypical: Snell, Swersky, Zemel (2017), "Prototypical Networks for Few-shot Learning", NeurIPS, eq. 1
    and 2; with a regression, Lee et al. (2019), "Meta-Learning with Differentiable Convex Optimization", CVPR.
"""

from dataclasses import dataclass
from typing import Literal, final

from metawarp.config import InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, MetaGradient, Method
from metawarp.meta_learning.second_order import recompute, unroll
from metawarp.parameters import InitParameters


@final
@dataclass(frozen=True)
class Maml(Method):
    """The gradient of the query loss after adaptation, with respect to the init and the inner learning rates."""

    inner: InnerLoop
    order: Literal[0, 1, 2] = 2
    min_inner_steps: int = 1

    def meta_gradient(self, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        if self.order == 2 and batch.second_order == "recompute":
            return recompute(init, batch)
        return unroll(init, batch, second_order=self.order == 2)
