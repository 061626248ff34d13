"""Load a model, whole, from the package that carries it, a folder, or the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from episodes import InputError
from episodes.errors import first_line, listing
from episodes.hub import hub_refusal
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.embedded import minilm_folder
from metawarp.backbones.family import Family, Head

_NEVER_READ = ("pooler.", "decoder.", "vocab_projector.", "predictions.bias", "lm_head.bias")
"""Parts of weight names that no feature depends on; a checkpoint may be without them."""

Loaded = tuple[nn.Module, Any, Family, Head | None, Head | None, str, str]
"""Encoder, tokenizer, family, masked-LM head, discriminator's head, fingerprint and source, as `Backbone` has them."""


def load_pretrained(name: str, device: str | torch.device, dtype: str | torch.dtype) -> Loaded:
    """A frozen model and what belongs to it; see `Backbone.load`."""
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

    dtype, device = _dtype(dtype), _device(device)
    source = minilm_folder() if name == "minilm" else name
    refusal = None if Path(source).is_dir() else hub_refusal("model", source)
    local = Path(source).is_dir() or refusal is not None  # the local cache may have what the Hub does not hand out
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local)
        if config.model_type not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise InputError(
                f"backbone {name!r} is of type {config.model_type!r}, {_why_not(config)}; use one of {known}."
            )
        family = ARCHITECTURES[config.model_type].family
        names = config.architectures or ()
        with_head = any(name.endswith(family.headed) for name in names)
        detects = any(name.endswith(family.detecting) for name in names) and not with_head

        def load(auto: Any, config: Any) -> tuple[Any, dict[str, Any]]:
            # The checkpoint's own dtype first, so that the fingerprint is that of the file, not of a cast.
            with _quietly():
                return auto.from_pretrained(
                    source, config=config, dtype="auto", output_loading_info=True, local_files_only=local
                )

        plain = AutoModelForPreTraining if detects else AutoModel
        model, found = load(AutoModelForMaskedLM if with_head else plain, config)
        if not with_head and family.released is not None:
            released = family.released(config, sorted(found["unexpected_keys"]))
            if released is not None:
                with_head = True
                model, found = load(AutoModelForMaskedLM, released)
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, local_files_only=local)
    except (InputError, ImportError):
        raise
    except Exception as error:  # whatever transformers makes of damaged files: KeyError, RuntimeError, …
        raise InputError(_why_not_loaded(name, refusal, error)) from error
    if tokenizer.mask_token_id is None:
        raise InputError(f"backbone {name!r} has no mask token; a masked language model is needed.")
    if len(tokenizer) < config.vocab_size / 2:  # transformers makes up an empty one where the files are missing
        raise InputError(
            f"the tokenizer of backbone {name!r} knows {len(tokenizer)} tokens and the model "
            f"{config.vocab_size}; its files are missing or those of another model."
        )
    missing = set(found["missing_keys"])
    needed = sorted(key for key in missing if not any(part in key for part in _NEVER_READ))
    if needed:
        raise InputError(
            f"the weights of backbone {name!r} are incomplete: its config promises {listing(needed, 3)}, "
            "which transformers would fill with random numbers."
        )
    fingerprint = _fingerprint(model, missing)
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    head = family.head(model) if with_head else None
    detector = family.detector(model) if detects and family.detector is not None else None
    encoder = getattr(model, family.encoder) if with_head or detects else model
    return encoder, tokenizer, family, head, detector, fingerprint, source


def _why_not(config: Any) -> str:
    from transformers.models.auto import modeling_auto

    left_to_right = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder:
        return "an encoder-decoder, whose encoder was trained to be read by its decoder and by nothing else"
    if left_to_right and config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "a decoder, in which no token sees what stands behind it"
    return "which metawarp does not know how to read"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the bar of transformers for loading weights, a second, and its report of those that no part takes.

    Heads for other tasks are no news, and what is missing is said by an error.
    """
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _fingerprint(model: nn.Module, missing: set[str]) -> str:
    """Sha256 (16 hex digits) over the names and bytes of all weights: the same model by any road is the same."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if key in missing:
            continue  # a pooler that the file lacks is random, and other numbers every time
        digest.update(key.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype {dtype!r} is no floating-point type of torch; use float32, bfloat16 or float64.")
    return found


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); use cpu.") from error
    return found


def _why_not_loaded(name: str, refusal: str | None, error: Exception) -> str:
    if Path(name).is_dir():
        return f"backbone folder {name!r} could not be loaded: {first_line(error)}"
    if refusal is None:
        return f"backbone {name!r} could not be loaded from the Hub: {first_line(error)}"
    return (
        f"backbone {name!r} is no folder here, and {refusal}; offline, "
        'use "minilm" or a folder with config.json, weights and tokenizer.'
    )
