"""The outer optimizer: AdamW on the difference of every tensor from its start, and the mean of its iterates.

References:
    Li, Grandvalet, Davoine (2018), "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML:
    weight decay towards the start (L2-SP). Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by
    Averaging"; Izmailov et al. (2018), "Averaging Weights Leads to Wider Optima and Better Generalization", UAI.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metawarp.training.run_folder import TensorGroups

MOMENTS = ("exp_avg", "exp_avg_sq")


class OuterOptimizer:
    """AdamW on tensors with a start and a learning rate each; a tensor with the learning rate 0 keeps its start.

    `max_grad_norm` is the largest norm of all gradients together.
    """

    def __init__(
        self, start: Mapping[str, Tensor], rates: Mapping[str, float], weight_decay: float, max_grad_norm: float
    ) -> None:
        self.start, self.rates, self.max_grad_norm = dict(start), rates, max_grad_norm
        # AdamW sees the difference from the start, so that its weight decay pulls towards the start.
        self.offset = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._sum = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        self._n_summed = torch.zeros(())  # a tensor, so that it is saved with the sum
        groups = [{"params": [offset], "base": rates[name]} for name, offset in self.offset.items()]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)

    def tensors(self) -> dict[str, Tensor]:
        """The current tensors; those that are learned require gradients."""
        sums = {name: start + self.offset[name] for name, start in self.start.items()}
        return {name: tensor.requires_grad_(self.rates[name] > 0) for name, tensor in sums.items()}

    def set_gradients(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Take gradients for the next step, scaled down to the largest norm; returns their norm before that."""
        for name, gradient in gradients.items():
            self.offset[name].grad = gradient
        return torch.nn.utils.clip_grad_norm_(list(self.offset.values()), self.max_grad_norm)

    def step(self, factor: float) -> None:
        """Take a step with a fraction of the learning rates."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self._optimizer.step()
        for name, offset in self.offset.items():
            self._sum[name] += offset
        self._n_summed += 1

    def take_mean(self) -> dict[str, Tensor]:
        """The mean of the tensors after each step since the last call; the current tensors if there was no step."""
        if not self._n_summed:
            return {name: tensor.detach() for name, tensor in self.tensors().items()}
        mean = {name: start + self._sum[name] / self._n_summed for name, start in self.start.items()}
        for total in (*self._sum.values(), self._n_summed):
            total.zero_()
        return mean

    def state(self) -> TensorGroups:
        """Everything that `restore` needs."""
        moments: TensorGroups = {moment: {} for moment in MOMENTS}
        for name, offset in self.offset.items():
            for moment in MOMENTS:
                moments[moment][name] = self._optimizer.state[offset].get(moment, torch.zeros_like(offset))
        return {"offset": self.offset, "sum": self._sum, "mean": {"steps": self._n_summed}, **moments}

    def restore(self, groups: TensorGroups, step: int) -> None:
        """Return to the state that `state` returned after so many steps."""
        self._sum, self._n_summed = groups["sum"], groups["mean"]["steps"]
        for name, offset in self.offset.items():
            offset.copy_(groups["offset"][name])
            moments = {moment: groups[moment][name] for moment in MOMENTS}
            self._optimizer.state[offset] = {"step": torch.tensor(float(step)), **moments}
