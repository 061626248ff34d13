"""What a checkpoint may bring along and metawarp never uses: code of its own, quantized weights, adapters."""

from typing import Any

from episodes.errors import InputError, first_line
from metawarp.backbones.repository import Repository

_REMOTE_CODE = (
    "is computed by code in its repository (trust_remote_code), which metawarp never runs; "
    "use a model of a type that transformers itself implements"
)
_PICKLED = "has pickled weights that hold more than numbers, and these are never read; save them as model.safetensors"


def refuse_untrusted(config: Any, repository: Repository, folder: str) -> None:
    """InputError if a checkpoint asks for code of its own, quantized weights or an adapter. `config` is that of
    transformers, and `folder` the folder of the checkpoint in its repository."""
    problem = None
    if any(str(part).startswith(("AutoModel", "AutoConfig")) for part in getattr(config, "auto_map", None) or ()):
        problem = _REMOTE_CODE
    elif getattr(config, "quantization_config", None) is not None:
        problem = "has quantized weights (quantization_config), which cannot be adapted; use the original weights"
    elif "/" in str(getattr(config, "_attn_implementation", None) or ""):
        problem = "asks for attention code from the Hub (attn_implementation); remove that entry of its config.json"
    elif repository.file("adapter_config.json", folder) is not None:
        problem = "is a PEFT adapter (adapter_config.json); merge it into its model, and save that one"
    if problem is not None:
        raise InputError(f"Backbone {repository.name!r} {problem}.")


def reason_of(error: Exception) -> str | None:
    """What is wrong with a checkpoint that transformers refused because it is not trusted; None for other errors."""
    message = str(error)
    if "trust_remote_code" in message:
        return _REMOTE_CODE
    if "weights_only" in message:
        return _PICKLED
    if isinstance(error, ImportError):
        return f"needs another package ({first_line(error)}); use a checkpoint that transformers reads alone"
    return None
