"""Prompts trained through a small network, which is folded away: what is validated and saved is what it puts out.

p = e + g(e) with g zero at first, so that training starts where it would without; e and the weights of g are learned.
g is a network over the vectors of the prompt, one by one or as a sequence.

References:
    Li, Liang (2021), "Prefix-Tuning", ACL, sec. 4.3 (an MLP, dropped after training).
    Liu, Zheng, Du, Ding, Qian, Yang, Tang (2021), "GPT Understands, Too" (P-Tuning), eq. 5: an LSTM both ways, and an
    MLP on it.
    Razdaibiedina et al. (2023), "Residual Prompt Tuning", ACL Findings, eq. 2: the network beside a skip connection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from episodes import InputError
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
        return self.out(torch.relu(self.hidden(self.sequence(vectors[None])[0][0])))


NETWORKS: dict[str, type[nn.Module]] = {"mlp": _Mlp, "lstm": _Lstm}
"""g, by name; each ends in a linear layer `out`."""


class Reparameterization:
    """A network between what is learned and the prompt; none, by the name "none".

    Args:
        name: of `NETWORKS`, or "none".
        prompt: (…, w) that training starts from.
        seed: of the network's weights.

    Raises:
        InputError: a prompt of several parts, which is no sequence of vectors.
    """

    def __init__(self, name: str, prompt: Tensor, seed: int) -> None:
        self.network: nn.Module | None = None
        if name == "none":
            return
        if prompt.dim() < 2:
            raise InputError("a reparameterization is of a prompt of vectors, form input or prefix; leave it out.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = NETWORKS[name](prompt.shape[-1])
        nn.init.zeros_(self.network.out.weight)  # pyright: ignore
        nn.init.zeros_(self.network.out.bias)  # pyright: ignore
        self.network.to(prompt)

    def start(self) -> State:
        """Weights of the network, to be learned beside the rest."""
        weights = self.network.named_parameters() if self.network is not None else ()
        return {f"{OWN}{name}": weight.detach().clone() for name, weight in weights}

    def folded(self, state: State) -> State:
        """The state without the network: its "prompt" is what the network makes of that one."""
        if self.network is None:
            return state
        weights = {name.removeprefix(OWN): tensor for name, tensor in state.items() if name.startswith(OWN)}
        vectors = state["prompt"].flatten(0, -2)
        prompt = state["prompt"] + functional_call(self.network, weights, (vectors,)).view_as(state["prompt"])
        return {name: tensor for name, tensor in state.items() if not name.startswith(OWN)} | {"prompt": prompt}

    def pulled_back(self, gradients: State, state: State) -> State:
        """Gradients with respect to a folded state, as those with respect to what it was folded from."""
        if self.network is None:
            return gradients
        learned = [name for name in state if name == "prompt" or name.startswith(OWN)]
        found = torch.autograd.grad(
            self.folded(state)["prompt"], [state[name] for name in learned], gradients["prompt"]
        )
        return gradients | dict(zip(learned, found, strict=True))
