"""The adapters by name."""

from dataclasses import replace

from episodes import InputError
from metawarp.adapters.adapter import Adapter, AdapterContext
from metawarp.adapters.biases import Biases
from metawarp.adapters.deep_prompt import DeepPrompt
from metawarp.adapters.lora import Lora
from metawarp.adapters.prefix import Prefix
from metawarp.adapters.prompt import Prompt
from metawarp.adapters.prompt_pool import PromptPool
from metawarp.adapters.weights import Weights
from metawarp.config import AdapterName

ADAPTERS: dict[AdapterName, type[Adapter]] = {
    "prompt": Prompt,
    "deep_prompt": DeepPrompt,
    "prefix": Prefix,
    "prompt_pool": PromptPool,
    "lora": Lora,
    "biases": Biases,
    "weights": Weights,
}
"""A new adapter is one more entry here, and its name in `AdapterName`."""

DEFAULT_SIZE = 8
"""Rank or number of prompts if the config gives no `adapter_size`."""

LARGEST_SIZE = 1000
"""Largest rank or number of prompts, so that no file asks for more memory than a machine has."""


def create_adapter(name: AdapterName, size: int | None, context: AdapterContext) -> Adapter:
    """The adapter of a name, bound to a model; `size` is the config's `adapter_size` and replaces that of the context.

    InputError for a size out of bounds, a size for an adapter without one, or a model that it does not support.
    """
    adapter, meaning = ADAPTERS[name], ADAPTERS[name].size_meaning
    if size is not None and meaning is None:
        raise InputError(f"adapter_size={size} has no meaning for adapter={name!r}; leave it out.")
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise InputError(f"adapter_size={size} must be from 1 to {LARGEST_SIZE}: it is the {meaning}.")
    return adapter(replace(context, size=None if meaning is None else size or DEFAULT_SIZE))
