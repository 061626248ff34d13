"""The forward pass of WARP: prompts and encoded texts to features, features and verbalizer rows to logits.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL: p(c) = softmax(f(x)·V_c),
    f(x) the masked language model's output at [MASK] before the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from episodes import InputError
from metawarp.backbone import Backbone
from metawarp.encoded import EncodedBatch
from metawarp.lower_layers import LowerLayers
from metawarp.template import Template, TextEncoder

CHOICES = {
    "read_out": ("mask", "mean", "mix"),
    "rows": ("names", "support", "mix", "random"),
    "name_source": ("template", "embeddings"),
    "similarity": ("cosine", "dot"),
    "prompt_start": ("mask", "vocabulary", "normal"),
}

State = dict[str, Tensor]
"""Learned numbers by name; every function of this package that takes one leaves it as it was."""


@dataclass(frozen=True)
class WarpConfig:
    """What a WARP model is made of, beside its numbers.

    Args:
        template: what stands around a text (see `Template`).
        read_out: f(x): "mask", the feature at [MASK] (WARP); "mean", the mean over the text's hidden
            states, as a sentence encoder does; "mix", (1 - g)·mean + g·mask with g learned.
        rows: where verbalizer rows come from: "names" of the classes, means of the "support" features,
            "mix", w·name + (1 - w)·mean with w falling with the shots, or "random".
        name_source: how a name becomes a row: read through the same "template" as the texts, or the mean of
            its word "embeddings" (needs a masked-LM head).
        similarity: "cosine" or "dot" product of feature and row, times a learned scale.
        prompt_start: soft tokens start from "mask" (WARP), random words of the "vocabulary", or "normal" noise.
        prompt_layer: layer that the soft tokens enter at; the layers below see the text and the template's words
            alone, so that what they make of a text can be kept. 0 is WARP.
        max_length: tokens of one input, template included; longer texts lose their end.
    """

    template: str = "{prompt:8} {text} {prompt:4} {mask}"
    read_out: str = "mix"
    rows: str = "mix"
    name_source: str = "template"
    similarity: str = "cosine"
    prompt_start: str = "mask"
    prompt_layer: int = 0
    max_length: int = 128

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(choices)}.")
        if not Template(self.template).has_mask and self.read_out != "mean":
            raise InputError(
                f"template {self.template!r} has no {{mask}}, which read-out {self.read_out!r} needs; "
                "add {mask}, or use the read-out mean."
            )


class Warp:
    """A backbone and a configuration: the pure functions from states and texts to features and logits.

    Args:
        backbone: frozen.
        config: what surrounds and reads it.

    Raises:
        InputError: the template does not fit the model's positions; word embeddings asked for as rows
            of a backbone without a masked-LM head; the backbone has no such layer.
    """

    def __init__(self, backbone: Backbone, config: WarpConfig) -> None:
        if config.name_source == "embeddings" and backbone.head is None:
            raise InputError(
                f"backbone {backbone.name!r} has no masked-LM head, so its word embeddings do not live where "
                "its features do; use name_source template."
            )
        self.backbone, self.config = backbone, config
        length = min(config.max_length, backbone.max_positions)
        self.encoder = TextEncoder(Template(config.template), backbone.tokenizer, length)
        if not 0 <= config.prompt_layer < backbone.n_layers:
            raise InputError(
                f"prompt_layer is {config.prompt_layer}; backbone {backbone.name!r} has the layers 0 to "
                f"{backbone.n_layers - 1}."
            )
        self.lower = LowerLayers(backbone, config.prompt_layer) if config.prompt_layer else None

    def remember(self, texts: Sequence[str], cache: str | Path | None = None) -> None:
        """Prepare the texts of a corpus once, for all the episodes that will hold them.

        Args:
            texts: they are tokenized.
            cache: folder for what the layers below the prompt make of them; None keeps it in memory, as they come.

        Raises:
            InputError: the folder cannot be used, or the prompt enters at layer 0.
        """
        self.encoder.remember(texts)
        if cache is None:
            return
        if self.lower is None:
            raise InputError("a cache is for what lies below the prompt, and nothing lies below layer 0; leave it out.")
        self.lower.remember(self.encoder(list(dict.fromkeys(texts))), Path(cache))

    def seen_by(self, prompt: Tensor) -> Tensor:
        """Soft tokens (K, d) as the layers below the prompt's leave them around an empty text, (K, h)."""
        if self.lower is None:
            return prompt
        batch = self.encoder([""]).to(self.backbone.device)
        embeddings = self.backbone.word_embeddings[batch.input_ids]
        soft = batch.prompt_index >= 0
        embeddings[soft] = prompt[batch.prompt_index[soft]].to(embeddings)
        entering = self.backbone.embedded(embeddings, batch.attention_mask, self.config.prompt_layer)
        return entering[soft].to(prompt)

    def features(self, prompts: Tensor, mix: Tensor | None, batch: EncodedBatch, task: Tensor) -> Tensor:
        """Read-out f(x) of each text under its own task's prompt.

        Args:
            prompts: (T, K, d), one prompt a task; or (1, K, d), the same for all, and a text that several tasks hold is
                read once.
            mix: weight g of [MASK] in the "mix" read-out, a scalar; None for the other read-outs.
            batch: B encoded texts.
            task: (B,) which task each text belongs to.

        Returns:
            (B, d) features; unit length under cosine similarity.
        """
        if len(prompts) > 1:
            return self._by_length(prompts, mix, batch, task)
        _, copies = torch.unique(batch.input_ids, dim=0, return_inverse=True)
        first = torch.zeros(int(copies.max()) + 1, dtype=torch.long).scatter_(0, copies, torch.arange(len(batch)))
        return self._by_length(prompts, mix, batch.select(first), torch.zeros_like(task[first]))[copies]

    def _by_length(self, prompts: Tensor, mix: Tensor | None, batch: EncodedBatch, task: Tensor) -> Tensor:
        """Features in passes of texts of about the same length, so that little padding is computed."""
        passes = batch.passes(self.backbone.max_tokens)
        features = [self._features(prompts, mix, batch.select(rows), task[rows]) for rows in passes]
        return torch.cat(features)[torch.argsort(torch.cat(passes))]

    def _features(self, prompts: Tensor, mix: Tensor | None, batch: EncodedBatch, task: Tensor) -> Tensor:
        encoded, batch, layer = batch, batch.to(self.backbone.device), self.config.prompt_layer
        entering = self.backbone.word_embeddings[batch.input_ids] if self.lower is None else self.lower(encoded)
        entering = entering.to(prompts.dtype)
        if self.encoder.prompt_length:
            soft = prompts[task[:, None], batch.prompt_index.clamp(min=0)]
            entering = torch.where(batch.prompt_index[..., None] >= 0, soft, entering)
        if self.config.read_out == "mask":
            at_mask = self.backbone.hidden_at(entering, batch.attention_mask, batch.mask_position, layer)
            return self.unit(self.backbone.mask_features(at_mask).to(prompts.dtype))
        hidden = self.backbone.hidden_states(entering, batch.attention_mask, layer)
        weights = batch.text_mask.to(hidden.dtype)
        mean = self.unit(((hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)).to(prompts.dtype))
        if mix is None:
            return mean
        at_mask = hidden[torch.arange(len(batch), device=hidden.device), batch.mask_position]
        at_mask = self.unit(self.backbone.mask_features(at_mask).to(prompts.dtype))
        return self.unit((1 - mix) * mean + mix * at_mask)

    def unit(self, vectors: Tensor) -> Tensor:
        """Vectors (…, d) as the similarity compares them: of unit length for cosine, unchanged for dot."""
        return normalize(vectors, dim=-1) if self.config.similarity == "cosine" else vectors

    def logits(self, features: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
        """Logits (…, C) = scale · similarity(f, V) for features (…, d) and verbalizer rows (…, C, d)."""
        return scale * torch.einsum("...d,...cd->...c", features, self.unit(rows))
