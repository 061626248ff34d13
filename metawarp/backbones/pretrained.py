"""Load a model, whole, from the package that carries it, a folder, or the Hub."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from episodes import InputError
from episodes.errors import first_line, listing
from episodes.hub import hub_refusal
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.embedded import minilm_folder
from metawarp.backbones.family import Decoder, Family, Head

logger = logging.getLogger(__name__)

_NEVER_READ = ("pooler.", "decoder.", "vocab_projector.", "predictions.bias", "generator_lm_head.", "lm_head.bias")
"""Parts of weight names that no feature depends on; a checkpoint may be without them."""


@dataclass(frozen=True)
class Pretrained:
    """A frozen model and what belongs to it; the attributes are those of `Backbone`."""

    model: nn.Module
    tokenizer: Any
    family: Family
    head: Head | None
    detector: Head | None
    decoder: Decoder | None
    fingerprint: str
    source: str


def load_pretrained(name: str, device: str | torch.device, dtype: str | torch.dtype) -> Pretrained:
    """Load and freeze a model; see `Backbone.load`."""
    from transformers import AutoConfig, AutoTokenizer

    dtype, device = _dtype(dtype), _device(device)
    source = minilm_folder() if name == "minilm" else name
    refusal = None if Path(source).is_dir() else hub_refusal("model", source)
    local = Path(source).is_dir() or refusal is not None  # the local cache may have what the Hub does not hand out
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local)
        family = _family_of(config, name)
        found = _checkpoint(source, config, family, local)
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, local_files_only=local)
    except (InputError, ImportError):
        raise
    except Exception as error:  # whatever transformers makes of damaged files: KeyError, RuntimeError, …
        raise InputError(_why_not_loaded(name, refusal, error)) from error
    _require_tokenizer_of(config, tokenizer, name)
    if needed := sorted(filter(_is_read, found.missing)):
        raise InputError(
            f"the weights of backbone {name!r} are incomplete: its config promises {listing(needed, 3)}, "
            "which transformers would fill with random numbers."
        )
    fingerprint = _fingerprint(found.model, found.missing)
    model = found.model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return Pretrained(
        model=getattr(model, family.encoder) if found.headed or found.detects else model,
        tokenizer=tokenizer,
        family=family,
        head=family.head(model) if found.headed else None,
        detector=family.detector(model) if found.detects and family.detector is not None else None,
        decoder=found.decoder,
        fingerprint=fingerprint,
        source=source,
    )


def _family_of(config: Any, name: str) -> Family:
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"backbone {name!r} is of type {config.model_type!r}, {_why_not(config)}; use one of {known}.")
    return ARCHITECTURES[config.model_type].family


@dataclass(frozen=True)
class _Checkpoint:
    """What transformers made of a checkpoint.

    Attributes:
        model: with its head, where `headed` (masked-LM) or `detects` (replaced tokens).
        headed: whether it has the masked-LM head.
        detects: whether it is a discriminator with its head.
        decoder: what the masked-LM head reads behind; None: the last layer.
        missing: names of weights that the model has and the checkpoint lacks.
    """

    model: Any
    headed: bool
    detects: bool
    decoder: Decoder | None
    missing: set[str]


def _checkpoint(source: str, config: Any, family: Family, local: bool) -> _Checkpoint:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

    classes = config.architectures or ()
    headed = any(one.endswith(family.headed) for one in classes)
    detects = any(one.endswith(family.detecting) for one in classes) and not headed

    def load(auto: Any, config: Any) -> tuple[Any, dict[str, Any]]:
        # The checkpoint's own dtype first, so that the fingerprint is that of the file, not of a cast.
        with _quietly():
            return auto.from_pretrained(
                source, config=config, dtype="auto", output_loading_info=True, local_files_only=local
            )

    auto = AutoModelForMaskedLM if headed else AutoModelForPreTraining if detects else AutoModel
    model, found = load(auto, config)
    head = {key for key in model.state_dict() if not key.startswith(f"{family.encoder}.") and _is_read(key)}
    by_another_name = any(map(_is_read, found["unexpected_keys"]))
    if (headed or detects) and head <= set(found["missing_keys"]) and not by_another_name:
        # Sentence encoders that were made of a masked language model often have its config still.
        logger.info("the config of %r promises a head, and its weights have none: it is read as an encoder", source)
        headed = detects = False
        model, found = load(AutoModel, config)
    decoder = None
    if not headed and family.released is not None:
        released = family.released(config, sorted(found["unexpected_keys"]))
        if released is not None:
            model, found = load(AutoModelForMaskedLM, released.config)
            released.mend(model)
            headed, decoder = True, released.decoder
    return _Checkpoint(model, headed, detects, decoder, set(found["missing_keys"]))


def _is_read(key: str) -> bool:
    return not any(part in key for part in _NEVER_READ)


def _require_tokenizer_of(config: Any, tokenizer: Any, name: str) -> None:
    if tokenizer.mask_token_id is None:
        raise InputError(f"backbone {name!r} has no mask token; a masked language model is needed.")
    if len(tokenizer) < config.vocab_size / 2:  # transformers makes up an empty one where the files are missing
        raise InputError(
            f"the tokenizer of backbone {name!r} knows {len(tokenizer)} tokens and the model "
            f"{config.vocab_size}; its files are missing or those of another model."
        )


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
    """Silences transformers' progress bar, which lasts a second, and its report of unused weights.

    Heads for other tasks are no news, and missing weights are said by an error.
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
