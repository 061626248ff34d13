"""What the outer loop moves: AdamW's way of every tensor from its start, and the mean of where it has been.

References:
    Li, Grandvalet, Davoine (2018), "Explicit Inductive Bias for Transfer Learning", ICML: decay
    toward the start (L2-SP).
    Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging"; Izmailov et al. (2018), "Averaging
    Weights Leads to Wider Optima and Better Generalization", UAI: a mean of iterates is nearer to the optimum that they
    circle around than each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metawarp.model.warp import State
from metawarp.training.run_folder import Groups

MOMENTS = ("exp_avg", "exp_avg_sq")


class Iterates:
    """Tensors on their way.

    Args:
        start: by name.
        rates: AdamW's learning rate of each; 0 for one that stays where it starts.
        weight_decay: toward the start.
        clip: largest norm of all gradients together.
    """

    def __init__(self, start: State, rates: Mapping[str, float], weight_decay: float, clip: float) -> None:
        self.start, self.rates, self.clip = start, rates, clip
        # What AdamW sees is the way from the start, so that its weight decay pulls back to the start.
        self.offset: State = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._sum: State = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._steps = torch.zeros(())  # that the sum is of; beside it in a checkpoint
        groups = [{"params": [offset], "base": rates[name]} for name, offset in self.offset.items()]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)

    def state(self) -> State:
        """Where they are; gradients are asked for of those that move."""
        return {
            name: (start + self.offset[name]).requires_grad_(self.rates[name] > 0) for name, start in self.start.items()
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
