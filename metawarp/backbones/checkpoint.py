"""Loading a checkpoint from the package that carries it, a folder, or the Hub: model, tokenizer and family."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from episodes.errors import InputError, first_line, listing
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.family import Family, Head, LastLayer
from metawarp.backbones.repository import Repository
from metawarp.backbones.sentence_layout import SentenceLayout, read_layout
from metawarp.backbones.untrusted import reason_of, refuse_untrusted

logger = logging.getLogger(__name__)

_NEVER_READ = ("pooler.", "decoder.", "vocab_projector.", "predictions.bias", "generator_lm_head.", "lm_head.bias")
"""Parts of weight names that no feature depends on; a checkpoint may lack them."""


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint:
    """A frozen model with its heads and its tokenizer.

    Attributes:
        model: the encoder, in evaluation mode; no parameter requires a gradient.
        tokenizer: the model's own tokenizer (a transformers "fast" tokenizer).
        family: how models of this type are computed.
        masked_lm_head: head before its decoder, (…, h) → (…, d); None if the model has none.
        discriminator_head: logit that a token was replaced, (…, h) → (…,); None if the model is not a discriminator.
        last_layer: replacement for the last layer where the masked-LM head reads (DeBERTa's enhanced mask decoder);
            None: the head reads the output of the last layer.
        layout: how the model becomes a sentence encoder.
        fingerprint: 16 hexadecimal digits of a sha256 over all weights, and over the layout unless it is mean pooling.
        source: folder or Hub id.
    """

    model: Any
    tokenizer: Any
    family: Family
    masked_lm_head: Head | None
    discriminator_head: Head | None
    last_layer: LastLayer | None
    layout: SentenceLayout
    fingerprint: str
    source: str


def load_checkpoint(name: str, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """Load and freeze a model; see `Backbone.load`. Code in the repository is never run."""
    from transformers import AutoConfig, AutoTokenizer

    repository = Repository.of(name)
    try:
        layout = read_layout(repository)
        options = {"local_files_only": repository.local_only, "subfolder": layout.folder, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(repository.source, **options)
        refuse_untrusted(config, repository, layout.folder)
        family = _family_of(config, name)
        layout.require_width(config.hidden_size, name)
        tokenizer = AutoTokenizer.from_pretrained(repository.source, use_fast=True, **options)
        _require_matching_tokenizer(config, tokenizer, family, name)
        with _quiet_transformers():
            whole = _load(repository, config, family, tokenizer, layout, options)
    except InputError:
        raise
    except Exception as error:  # whatever transformers raises for damaged files: KeyError, RuntimeError, …
        raise InputError(_loading_failure(name, repository.refusal, error)) from error
    for module in (whole.model, layout.head):
        module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return replace(whole, model=whole.model.base_model)  # the heads are separate


def _load(
    repository: Repository,
    config: Any,
    family: Family,
    tokenizer: Any,
    layout: SentenceLayout,
    options: Mapping[str, Any],
) -> Checkpoint:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

    source = repository.source
    announced = config.architectures or ()
    masked_lm = any(kind.endswith(family.masked_lm_classes) for kind in announced)
    discriminates = not masked_lm and any(kind.endswith(family.discriminator_classes) for kind in announced)
    auto = AutoModelForMaskedLM if masked_lm else AutoModelForPreTraining if discriminates else AutoModel
    # The checkpoint's own dtype first, so that the fingerprint is that of the file, not of a cast.
    options = {"dtype": "auto", "output_loading_info": True, **options}
    model, report = auto.from_pretrained(source, config=config, **options)
    head = {key for key in model.state_dict() if not key.startswith(f"{model.base_model_prefix}.") and _is_read(key)}
    under_another_name = any(map(_is_read, report["unexpected_keys"]))
    if (masked_lm or discriminates) and head <= set(report["missing_keys"]) and not under_another_name:
        # Sentence encoders that were made from a masked language model often still have its config.
        logger.info("the config of %r announces a head, but its weights have none: it is read as an encoder", source)
        masked_lm = discriminates = False
        model, report = AutoModel.from_pretrained(source, config=config, **options)
    last_layer, unannounced = None, None if masked_lm else family.unannounced_head
    if unannounced and (with_head := unannounced.config(config, report["unexpected_keys"])) is not None:
        model, report = AutoModelForMaskedLM.from_pretrained(source, config=with_head, **options)
        masked_lm, last_layer = True, unannounced.finish(model, config)
    missing = set(report["missing_keys"])
    if needed := sorted(filter(_is_read, missing)):
        problem = f"its config announces {listing(needed, 3)}, which transformers would fill with random numbers"
        others = sorted(report["unexpected_keys"])
        instead = f"; the file has instead {listing(others, 3)}" if others else ""
        raise InputError(f"The weights of backbone {repository.name!r} are incomplete: {problem}{instead}.")
    masked_lm_head = family.masked_lm_head(model) if masked_lm else None
    discriminator_head = getattr(model, family.discriminator_head) if discriminates else None
    heads = masked_lm_head, discriminator_head, last_layer
    return Checkpoint(model, tokenizer, family, *heads, layout, _fingerprint(model, missing, layout), source)


def _fingerprint(model: Any, missing: set[str], layout: SentenceLayout) -> str:
    """Sha256 over the names and bytes of all weights (16 hexadecimal digits), independent of the source."""
    digest = hashlib.sha256()
    # A pooler that the file lacks is random, and different every time.
    weights = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    weights |= {f"sentence head.{key}": tensor for key, tensor in layout.head.state_dict().items()}
    for key, tensor in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    if layout.identity:
        digest.update(layout.identity.encode())
    return digest.hexdigest()[:16]


def _require_matching_tokenizer(config: Any, tokenizer: Any, family: Family, name: str) -> None:
    if mask_token_id(tokenizer, family) is None:
        needed = "end-of-text token" if family.reads_end_of_text else "mask token; use a masked language model"
        raise InputError(f"Backbone {name!r} has no {needed}.")
    if len(tokenizer) < config.vocab_size / 2:  # transformers makes an empty one if the files are missing
        given = f"The tokenizer of backbone {name!r} knows {len(tokenizer)} tokens and the model {config.vocab_size}"
        raise InputError(f"{given}; its files are missing or belong to another model.")


def _family_of(config: Any, name: str) -> Family:
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind].family
    reason = "which metawarp does not support"
    if config.is_encoder_decoder:
        reason = "an encoder-decoder, whose encoder was trained to be read by its decoder only"
    elif kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        reason = "a decoder of another architecture than the supported ones"
    raise InputError(f"Backbone {name!r} is of type {kind!r}, {reason}; use one of {', '.join(sorted(ARCHITECTURES))}.")


def mask_token_id(tokenizer: Any, family: Family) -> int | None:
    """Id of the token that stands for {mask} in a template: [MASK]; for a decoder, the token that its tokenizer puts
    after a text, or else its end-of-text token."""
    if not family.reads_end_of_text:
        return tokenizer.mask_token_id
    last = tokenizer("a")["input_ids"][-1]
    return last if last in tokenizer.all_special_ids else tokenizer.eos_token_id


def _is_read(key: str) -> bool:
    return not any(part in key for part in _NEVER_READ)


def _loading_failure(name: str, refusal: str | None, error: Exception) -> str:
    if refusal is not None:
        advice = 'without a network, use "minilm" or a folder with config.json, weights and tokenizer'
        return f"Backbone {name!r} is not a folder, and {refusal}; {advice}."
    if (reason := reason_of(error)) is not None:
        return f"Backbone {name!r} {reason}."
    kind, place = ("The backbone folder", "") if Path(name).is_dir() else ("Backbone", " from the Hub")
    return f"{kind} {name!r} could not be loaded{place}: {first_line(error)}"


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the progress bar, and the report of unused weights: heads for other tasks are expected."""
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
