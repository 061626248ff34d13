"""Steps on the loss of the support texts under the class embeddings of the task: θ - α·∇L_support(θ).

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, eq. 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from metawarp.adaptation.inner_steps import InnerSteps
from metawarp.adaptation.start import ExampleFeatures, losses_of, read_texts, start
from metawarp.config import Group
from metawarp.parameters import TaskParameters
from metawarp.texts.task_batch import LabelledTexts


@final
@dataclass(frozen=True)
class SupportSteps(InnerSteps):
    """Class embeddings are computed before the first step, and may move with the adapter."""

    def begin(self) -> tuple[TaskParameters, ExampleFeatures | None]:
        return start(self.warp, self.init, self.tasks, self.inner.moving)

    def step(
        self,
        current: TaskParameters,
        texts: LabelledTexts,
        number: int,
        *,
        features: Tensor | None = None,
        second_order: bool = False,
    ) -> tuple[TaskParameters, Tensor]:
        warp, updates = self.warp, self.inner.updates
        features = read_texts(warp, current, texts) if features is None else features
        # The first class embeddings are functions of features under the same adapter. The adapter's partial derivative
        # holds them fixed, so it is taken in two stages: loss → features, features → parameters that they depend on.
        through: list[Group] = [group for group in updates if group in warp.read_out.depends_on]
        direct: list[Group] = [group for group in updates if group not in through]
        groups: tuple[Group, ...] = (*direct, *through)
        copied = features.clone()
        variables = [getattr(current, group) for group in direct] + ([copied] if through else [])
        losses = losses_of(warp, current, copied, texts, self.tasks)
        gradients = list(torch.autograd.grad(losses.sum(), variables, create_graph=second_order))
        if through:
            outputs, variables = [features], [getattr(current, group) for group in through]
            of_features = [gradients.pop()]
            gradients += torch.autograd.grad(
                outputs, variables, of_features, retain_graph=True, create_graph=second_order
            )
        updated: dict[str, Tensor] = {}
        for group, gradient in zip(groups, gradients, strict=True):
            gradient = gradient if second_order else gradient.detach()
            updated[group] = getattr(current, group) - self.init.inner_lr(group, number) * gradient
        return replace(current, **updated), losses.detach()

    def finish(
        self, current: TaskParameters, after_read: Callable[[], object] = lambda: None
    ) -> tuple[TaskParameters, ExampleFeatures | None]:
        return current, None
