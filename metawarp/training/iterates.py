"""What the outer loop moves: AdamW's way of every tensor from its start, and the mean of where it has been.

References:
    Li, Grandvalet, Davoine (2018), "Explicit Inductive Bias for Transfer Learning", ICML: decay
    toward the start (L2-SP).
    Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging"; Izmailov et al. (2018), "Averaging
    Weights Leads to Wider Optima and Better Generalization", UAI: a mean of iterates is nearer to the optimum that they
    circle around than each of them.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from metawarp.model.warp import State
from metawarp.training.config import TrainingConfig
from metawarp.training.reparameterization import OWN
from metawarp.training.run_folder import Groups

MOMENTS = ("exp_avg", "exp_avg_sq")
MANY = ("prompt", "class_rows")
"""Tensors that `lr` is for."""


class Iterates:
    """Tensors on their way.

    Args:
        start: by name.
        fixed: names of those that stay there.
        config: learning rates, one for prompt and rows, which have many numbers, and one for others; decay; largest
            gradient.
    """

    def __init__(self, start: State, fixed: Collection[str], config: TrainingConfig) -> None:
        self.start, self.fixed, self.clip = start, fixed, config.clip
        # What AdamW sees is the way from the start, so that its weight decay pulls back to the start.
        self.offset: State = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._sum: State = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._steps = torch.zeros(())  # that the sum is of; beside it in a checkpoint
        vectors = [offset for name, offset in self.offset.items() if name in MANY]
        network = [name for name in self.offset if name.startswith(OWN)]
        scalars = [offset for name, offset in self.offset.items() if name not in (*MANY, *network)]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": vectors, "base": config.lr},
                {"params": scalars, "base": config.scalar_lr},
                # A step of a weight moves what comes out by as much as there are numbers coming in (Yang et al., 2022,
                # "Tensor Programs V", table 8).
                *({"params": [self.offset[name]], "base": config.lr / start[name].shape[-1]} for name in network),
            ],
            weight_decay=config.weight_decay,
        )

    def state(self) -> State:
        """Where they are; gradients are asked for of those that are not fixed."""
        return {
            name: (start + self.offset[name]).requires_grad_(name not in self.fixed)
            for name, start in self.start.items()
        }

    def take(self, gradients: State) -> Tensor:
        """Take gradients for the next step, shortened to the largest norm; their norm before that."""
        for name, gradient in gradients.items():
            self.offset[name].grad = gradient
        return torch.nn.utils.clip_grad_norm_(list(self.offset.values()), self.clip)

    def step(self, rate: float) -> None:
        """Move along the gradients taken, at a share of the learning rates."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * rate
        self._optimizer.step()
        for name, offset in self.offset.items():
            self._sum[name] += offset
        self._steps += 1

    def take_mean(self) -> State:
        """The mean of where they were after each step since it was taken last; where they are, if there was none."""
        if not self._steps:
            return {name: tensor.detach() for name, tensor in self.state().items()}
        found = {name: start + self._sum[name] / self._steps for name, start in self.start.items()}
        for total in (*self._sum.values(), self._steps):
            total.zero_()
        return found

    def tensors(self) -> Groups:
        """Everything that `restore` needs."""
        moments: Groups = {moment: {} for moment in MOMENTS}
        for name, offset in self.offset.items():
            for moment, members in moments.items():
                members[name] = self._optimizer.state[offset].get(moment, torch.zeros_like(offset))
        return {"offset": self.offset, "sum": self._sum, "mean": {"steps": self._steps}, **moments}

    def restore(self, groups: Groups, step: int) -> None:
        """Be again where `tensors` were asked for, after so many steps."""
        self._sum, self._steps = groups["sum"], groups["mean"]["steps"]
        for name, offset in self.offset.items():
            offset.copy_(groups["offset"][name])
            moments = {moment: groups[moment][name] for moment in MOMENTS}
            self._optimizer.state[offset] = {"step": torch.tensor(float(step)), **moments}
