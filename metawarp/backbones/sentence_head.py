"""What sentence encoders compute of the pooled vector: dense layers, and vectors of unit length."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from episodes.errors import InputError, first_line


@final
class Dense(nn.Module):
    """A linear layer with an activation function, and optionally a residual connection."""

    def __init__(self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, out) of vectors (B, in)."""
        projected = self.activation(self.linear(vectors))
        return projected if self.residual is None else projected + self.residual(vectors)

    @classmethod
    def load(cls, config: Mapping[str, Any], file: Path, folder: str) -> Self:
        """The module in a folder of a repository, with its config and weights; InputError if they cannot be read."""
        try:
            size = int(config["in_features"]), int(config["out_features"])
            linear = nn.Linear(*size, bias=bool(config.get("bias", True)))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The config of the Dense module in {folder!r} is damaged ({first_line(error)})."
            ) from error
        residual = None
        if config.get("use_residual"):
            residual = nn.Identity() if size[0] == size[1] else nn.Linear(*size, bias=False)
        module = cls(linear, _activation(config.get("activation_function", "torch.nn.Tanh"), folder), residual)
        try:
            module.load_state_dict(load_file(file))
        except (SafetensorError, OSError, RuntimeError) as error:
            problem = f"do not fit its config ({first_line(error)})"
            raise InputError(f"The weights of the Dense module in {folder!r} {problem}.") from error
        return module


@final
class Normalize(nn.Module):
    """Vectors of unit length."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, d) of length 1, from vectors (B, d)."""
        return nn.functional.normalize(vectors, dim=-1)


def output_size(head: nn.Sequential, size: int) -> int:
    """Width of what a head computes of vectors with a width; InputError if a module takes another width."""
    for module in head:
        if isinstance(module, Dense):
            if module.linear.in_features != size:
                raise InputError(f"a Dense module takes vectors of width {module.linear.in_features}, but gets {size}")
            size = module.linear.out_features
    return size


def _activation(name: Any, folder: str) -> nn.Module:
    """An activation function by its full name. Only classes of torch are created, whatever a config names."""
    kind = getattr(nn, str(name).rpartition(".")[2], None) if str(name).startswith("torch.nn.") else None
    try:
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            return kind()
    except TypeError:  # a module that needs arguments is no activation function
        pass
    raise InputError(f"The Dense module in {folder!r} has the activation function {name!r}, which is not in torch.nn.")
