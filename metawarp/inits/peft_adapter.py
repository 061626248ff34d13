"""Prompts as adapters of PEFT: a prompt before everything else is PEFT's PROMPT_TUNING, and the other way round.

PEFT puts its virtual tokens before a model's first token; templates say so by `{start}`: "{prompt:8} {start} {text}".
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from episodes import InputError
from episodes.errors import first_line, listing
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.backbones.backbone import Backbone
from metawarp.forms.low_rank import require_peft
from metawarp.inits.init import Init
from metawarp.model.config import WarpConfig
from metawarp.model.warp import Warp
from metawarp.outputs import claim_folder, write_whole
from metawarp.texts.template import Template

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(init: Init, backbone: Backbone, folder: str | Path) -> None:
    """Write an init's prompt as PEFT's PROMPT_TUNING adapter, for `peft.PeftModel.from_pretrained(model, folder)`.

    Args:
        init: its template is soft tokens, `{start}`, and whatever else.
        backbone: the model that it is for.
        folder: where to.

    Raises:
        InputError: PEFT cannot express the form or the template; the init is of another backbone; the folder holds an
            adapter already, or cannot be written.
        ImportError: PEFT is not installed.
    """
    warp, folder = init.bind(backbone).config, Path(folder)
    kinds = [kind for kind, _ in Template(warp.template).parts]
    first = kinds.index("start") if "start" in kinds else 0
    soft = [kind.startswith("soft") for kind in kinds]
    if warp.form != "input" or warp.prompt_layer or not first or not all(soft[:first]) or any(soft[first:]):
        raise InputError(
            f"PEFT's prompt tuning needs form input, prompt_layer 0 and soft tokens before {{start}} alone, such as "
            f"'{{prompt:8}} {{start}} {{text}} {{mask}}'; this init has form {warp.form!r}, prompt_layer "
            f"{warp.prompt_layer} and the template {warp.template!r}."
        )
    prompt, peft = init.tensors["prompt"], require_peft()
    claim_folder(folder, [CONFIG, WEIGHTS], kind="adapter", advice="choose another folder")
    config = peft.PromptTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=len(prompt),
        token_dim=prompt.shape[1],
        num_layers=backbone.n_layers,
        num_attention_heads=backbone.model.config.num_attention_heads,  # pyright: ignore
        base_model_name_or_path=backbone.source,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    write_whole(folder / WEIGHTS, serialized({"prompt_embeddings": prompt.contiguous()}))


def load_adapter(folder: str | Path, backbone: Backbone, *, template: str = "{text} {mask}", **config: Any) -> Init:
    """A fresh init whose prompt is that of a PROMPT_TUNING adapter of PEFT, before the model's first token.

    Args:
        folder: of the adapter.
        backbone: the model that it was trained on, or one of the same width.
        template: what else stands around a text; it names no soft tokens.
        config: other settings of `WarpConfig`, `form` and `prompt_layer` aside.

    Raises:
        InputError: no such adapter, or one of another width; a template with soft tokens of its own; a form or layer.
    """
    if unfit := sorted({"form", "prompt_layer"} & set(config)):
        raise InputError(f"an adapter of PEFT is soft tokens at the input; leave out {listing(unfit)}.")
    prompt = _prompt_in(Path(folder))
    if any(kind.startswith(("soft", "start")) for kind, _ in Template(template).parts):
        raise InputError(f"template {template!r} has soft tokens or {{start}}; those of an adapter are put there.")
    warp = Warp(backbone, WarpConfig(template=f"{{prompt:{len(prompt)}}} {{start}} {template}", **config))
    if warp.form.shape != tuple(prompt.shape):
        raise InputError(
            f"the prompt of the adapter has the shape {tuple(prompt.shape)}; on backbone {backbone.name!r} it is "
            f"{warp.form.shape}."
        )
    fresh = Init.start(warp, InnerLoop(0, ()))
    return replace(fresh, tensors={**fresh.tensors, "prompt": prompt.float()})


def _prompt_in(folder: Path) -> Tensor:
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["peft_type"]
        prompt = load_file(folder / WEIGHTS)["prompt_embeddings"] if kind == "PROMPT_TUNING" else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{str(folder)!r} holds no whole adapter of PEFT, {CONFIG} and {WEIGHTS} ({first_line(error)})."
        ) from error
    if prompt is None:
        raise InputError(f"the adapter in {str(folder)!r} is of type {kind!r}; PROMPT_TUNING is needed.")
    return prompt
