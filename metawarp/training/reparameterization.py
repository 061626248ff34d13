"""Soft tokens trained through a small network, which is removed when the init is validated and saved.

p = e + g(e), with g zero at first, so that training starts as without it; e and the weights of g are learned. g is a
network over soft tokens, one by one or as the sequence that they are. Adapters with soft tokens at several places
(layers, keys and values, a pool) have one network for all places of the same part.

References:
    Li, Liang (2021), "Prefix-Tuning", ACL, sec. 4.3 (an MLP, removed after training).
    Liu et al. (2021), "GPT Understands, Too" (P-Tuning), eq. 5 (a bidirectional LSTM and an MLP).
    Razdaibiedina et al. (2023), "Residual Prompt Tuning", ACL Findings, eq. 2: the network beside a skip connection.
    Yang et al. (2022), "Tensor Programs V", table 8: learning rates of weights by their number of inputs.
"""

import math
from collections.abc import Mapping
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from episodes import InputError
from metawarp.adapters.adapter import Adapter, join, split
from metawarp.randomness import generator_for

PREFIX = "reparameterization."
"""Prefix of the names of the network's weights among the tensors of the outer optimizer."""


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


NETWORKS: dict[str, type[_Mlp] | type[_Lstm]] = {"mlp": _Mlp, "lstm": _Lstm}
"""Networks g by name, from soft tokens (…, K, w) to the same shape; each ends in a linear layer `out`."""


@final
class Reparameterization:
    """Networks between the learned tensors and the adapter; none for the name "none".

    Soft tokens of the adapter pass through a network, its other parts do not; InputError if it has no soft tokens. The
    networks have the device and data type of `start`, the adapter values that training starts from.
    """

    def __init__(self, name: Literal["none", "mlp", "lstm"], adapter: Adapter, start: Tensor, seed: int) -> None:
        self.adapter = adapter
        self.networks: dict[str, _Mlp | _Lstm] = {}
        if name == "none":
            return
        shapes = adapter.shapes
        widths = {part: shapes[part][-1] for part in adapter.soft_token_parts if math.prod(shapes.get(part, (0,)))}
        if not widths:
            raise InputError(f"reparameterization={name!r} needs soft tokens, but there are none; leave it out.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_for(seed, "reparameterization").initial_seed())
            self.networks = {part: NETWORKS[name](width) for part, width in widths.items()}
        for network in self.networks.values():
            for zero in network.out.parameters():
                nn.init.zeros_(zero)
            network.to(start)

    def start(self) -> dict[str, Tensor]:
        """Weights of the networks, learned beside the init."""
        networks = nn.ModuleDict(self.networks)
        return {f"{PREFIX}{name}": weight.detach().clone() for name, weight in networks.named_parameters()}

    def learning_rates(self, lr: float) -> dict[str, float]:
        """Learning rate of each weight: a step changes the output in proportion to the number of its inputs."""
        return {name: lr / weight.shape[-1] for name, weight in self.start().items()}

    def folded(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors without the networks, whose output becomes the adapter."""
        if not self.networks:
            return dict(tensors)
        parts = {name: part[0] for name, part in split(self.adapter, tensors["adapter"][None]).items()}
        for part, network in self.networks.items():
            weights = {name: tensors[f"{PREFIX}{part}.{name}"] for name, _ in network.named_parameters()}
            parts[part] = parts[part] + functional_call(network, weights, (parts[part],))
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
        return {**rest, "adapter": join(self.adapter, parts)}

    def unfolded_gradients(self, gradients: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients with respect to the tensors, from gradients with respect to the folded ones."""
        if not self.networks:
            return dict(gradients)
        learned = {name: t for name, t in tensors.items() if name == "adapter" or name.startswith(PREFIX)}
        adapter, gradient = self.folded(tensors)["adapter"], gradients["adapter"]
        unfolded = torch.autograd.grad(adapter, list(learned.values()), gradient)
        return {**gradients, **dict(zip(learned, unfolded, strict=True))}
