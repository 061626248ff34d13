"""Prompts as PROMPT_TUNING adapters of PEFT, in both directions.

PEFT puts its virtual tokens before a model's first token, which a template expresses by `{start}`:
"{prompt:8} {start} {text}".
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save as serialized
from torch import Tensor

from episodes.errors import InputError, first_line, listing
from episodes.paths import user_path
from episodes.writing import write_bytes
from metawarp.adapters.adapter import adapter_shape
from metawarp.backbones.backbone import Backbone
from metawarp.config import InnerLoop, WarpConfig
from metawarp.inits.init import Init
from metawarp.outputs import claim_folder
from metawarp.texts.template import Template
from metawarp.warp import Warp

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(init: Init, backbone: Backbone, folder: str | Path) -> None:
    """Write an init's prompt as a PROMPT_TUNING adapter, for `peft.PeftModel.from_pretrained(model, folder)`.

    InputError if PEFT cannot express this adapter or template, or the backbone or folder cannot be used.
    """
    config, folder = init.bind(backbone).config, user_path(folder)
    kinds = [kind for kind, _ in Template(config.template).parts]
    first = kinds.index("start") if "start" in kinds else 0
    soft = [kind.startswith("soft") for kind in kinds]
    if config.adapter != "prompt" or config.adapter_layer or not first or not all(soft[:first]) or any(soft[first:]):
        given = f"adapter={config.adapter!r}, adapter_layer={config.adapter_layer}, template={config.template!r}"
        needed = "adapter='prompt', adapter_layer=0 and all soft tokens before {start}"
        raise InputError(f"PEFT's prompt tuning needs {needed}; this init has {given}.")
    peft, prompt = _require_peft(), init.parameters.adapter * _factor(backbone)
    claim_folder(folder, [CONFIG, WEIGHTS], kind="adapter", advice="choose another folder")
    sizes = {"num_virtual_tokens": len(prompt), "token_dim": prompt.shape[1]}
    sizes |= {"num_layers": backbone.n_layers, "num_attention_heads": backbone.n_heads}
    model = {"task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": backbone.source, "inference_mode": True}
    with TemporaryDirectory() as temporary:
        peft.PromptTuningConfig(**model, **sizes).save_pretrained(temporary)
        config_file = (Path(temporary) / CONFIG).read_bytes()
    write_bytes(folder / WEIGHTS, serialized({"prompt_embeddings": prompt.contiguous()}))
    write_bytes(folder / CONFIG, config_file)


def load_adapter(folder: str | Path, backbone: Backbone, *, template: str = "{text} {mask}", **settings: Any) -> Init:
    """A fresh init whose prompt is that of a PROMPT_TUNING adapter, before the model's first token.

    The backbone is the one that the adapter was trained on, or one of the same width. The template contains no soft
    tokens. The settings are those of `WarpConfig`, except for the adapter's. InputError if the folder holds no adapter.
    """
    if unusable := sorted(name for name in settings if name.startswith("adapter")):
        raise InputError(f"A PROMPT_TUNING adapter is soft tokens at the input; leave out {listing(unusable)}.")
    prompt = _read_prompt(user_path(folder)) / _factor(backbone)
    if any(kind.startswith(("soft", "start")) for kind, _ in Template(template).parts):
        raise InputError(f"template={template!r} must not contain soft tokens or {{start}}: the adapter adds its own.")
    warp = Warp(backbone, WarpConfig(template=f"{{prompt:{len(prompt)}}} {{start}} {template}", **settings))
    shape, needed = tuple(prompt.shape), adapter_shape(warp.adapter)
    if shape != needed:
        raise InputError(f"The adapter's prompt has the shape {shape}, but backbone {backbone.name!r} needs {needed}.")
    fresh = Init.start(warp, InnerLoop())
    return replace(fresh, parameters=replace(fresh.parameters, adapter=prompt.float()))


def _factor(backbone: Backbone) -> float:
    """PEFT's virtual tokens are what the model makes of word embeddings."""
    return float(backbone.family.embedding_factor(backbone.model))


def _read_prompt(folder: Path) -> Tensor:
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["peft_type"]
        prompt = load_file(folder / WEIGHTS)["prompt_embeddings"] if kind == "PROMPT_TUNING" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        needed = f"a complete PEFT adapter, {CONFIG} and {WEIGHTS}"
        raise InputError(f"{str(folder)!r} does not hold {needed} ({first_line(error)}).") from error
    if prompt is None:
        raise InputError(f"The adapter in {str(folder)!r} is of type {kind!r}, but PROMPT_TUNING is needed.")
    if prompt.ndim != 2 or not prompt.is_floating_point() or not prompt.isfinite().all():
        problem = "is not a matrix of finite floating-point numbers"
        raise InputError(f"The tensor prompt_embeddings in {str(folder / WEIGHTS)!r} {problem}; save it again.")
    return prompt


def _require_peft() -> Any:
    """The module `peft`; an ImportError with the command that installs it if it is missing."""
    try:
        import peft
    except ImportError as error:
        raise ImportError('PEFT files need an extra: pip install "metawarp[peft]"') from error
    return peft
