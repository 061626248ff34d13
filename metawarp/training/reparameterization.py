"""Prompts trained through a small network, which is folded away: what is validated and saved is what it puts out.

p = e + g(e) with g zero at first, so that training starts where it would without; e and the weights of g are learned.
g is a network over soft tokens, one by one or as the sequence that they are; forms with soft tokens at several places
(layers, keys and values, a pool) have one network for all places of the same width.

References:
    Li, Liang (2021), "Prefix-Tuning", ACL, sec. 4.3 (an MLP, dropped after training).
    Liu, Zheng, Du, Ding, Qian, Yang, Tang (2021), "GPT Understands, Too" (P-Tuning), eq. 5: an LSTM both ways, and an
    MLP on it.
    Razdaibiedina et al. (2023), "Residual Prompt Tuning", ACL Findings, eq. 2: the network beside a skip connection.
    Yang et al. (2022), "Tensor Programs V", table 8: learning rates of weights by the numbers that come in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from episodes import InputError
from metawarp.adaptation.randomness import generator_of
from metawarp.forms.form import Form
from metawarp.model.warp import State

OWN = "reparameterization."
"""What the names of the network's weights begin with, among the tensors that the outer loop moves."""


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(vectors)))


class _Lstm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.sequence = nn.LSTM(width, width // 2, num_layers=2, bidirectional=True, batch_first=True)
        self.hidden, self.out = nn.Linear(2 * (width // 2), width), nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        sequences = vectors.reshape(-1, *vectors.shape[-2:])
        return self.out(torch.relu(self.hidden(self.sequence(sequences)[0]))).view_as(vectors)


NETWORKS: dict[str, type[nn.Module]] = {"mlp": _Mlp, "lstm": _Lstm}
"""g, by name: from soft tokens (…, K, w) to as many; each ends in a linear layer `out`."""


class Reparameterization:
    """Networks between what is learned and the prompt; none, by the name "none".

    Args:
        name: of `NETWORKS`, or "none".
        form: of the prompt; its soft tokens go through a network, its other parts do not.
        prompt: of the form's shape, that training starts from.
        seed: of the networks' weights.

    Raises:
        InputError: the form, with this template, has no soft tokens.
    """

    def __init__(self, name: str, form: Form, prompt: Tensor, seed: int) -> None:
        self.form, self.networks = form, nn.ModuleDict()
        if name == "none":
            return
        widths = {part: form.shapes[part][-1] for part in form.soft_parts if math.prod(form.shapes.get(part, (0,)))}
        if not widths:
            raise InputError(
                "a reparameterization is of soft tokens, and this form or template has none; leave it out."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_of(seed, "reparameterization").initial_seed())
            self.networks.update({part: NETWORKS[name](width) for part, width in widths.items()})
        for network in self.networks.values():
            nn.init.zeros_(network.out.weight)  # pyright: ignore
            nn.init.zeros_(network.out.bias)  # pyright: ignore
        self.networks.to(prompt)

    def start(self) -> State:
        """Weights of the networks, to be learned beside the rest."""
        return {f"{OWN}{name}": weight.detach().clone() for name, weight in self.networks.named_parameters()}

    def rates(self, lr: float) -> dict[str, float]:
        """Learning rate of each weight, where soft tokens have `lr`.

        A step of a weight moves what comes out by as much as there are numbers coming in.
        """
        return {name: lr / weight.shape[-1] for name, weight in self.start().items()}

    def folded(self, state: State) -> State:
        """The state without the networks: its "prompt" is what they make of that one."""
        if not self.networks:
            return state
        parts = {name: part[0] for name, part in self.form.parted(state["prompt"][None]).items()}
        for name, network in self.networks.items():
            first = f"{OWN}{name}."
            weights = {key.removeprefix(first): tensor for key, tensor in state.items() if key.startswith(first)}
            parts[name] = parts[name] + functional_call(network, weights, (parts[name],))
        rest = {name: tensor for name, tensor in state.items() if not name.startswith(OWN)}
        return {**rest, "prompt": self.form.joined(parts)}

    def pulled_back(self, gradients: State, state: State) -> State:
        """Gradients with respect to a folded state, as those with respect to what it was folded from."""
        if not self.networks:
            return gradients
        learned = [name for name in state if name == "prompt" or name.startswith(OWN)]
        found = torch.autograd.grad(
            self.folded(state)["prompt"], [state[name] for name in learned], gradients["prompt"]
        )
        return gradients | dict(zip(learned, found, strict=True))
