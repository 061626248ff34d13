"""The forward pass of WARP: prompts and encoded texts to features, features and verbalizer rows to logits.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL: p(c) = softmax(f(x)·V_c),
    f(x) the masked language model's output at [MASK] before the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import normalize

from episodes import InputError
from metawarp.backbone import Backbone
from metawarp.template import EncodedBatch, Template, TextEncoder

CHOICES = {
    "read_out": ("mask", "mean", "mix"),
    "rows": ("names", "support", "mix", "random"),
    "name_source": ("template", "embeddings"),
    "similarity": ("cosine", "dot"),
    "prompt_start": ("mask", "vocabulary", "normal"),
}

WORTH_A_PASS, PADDING = 512, 0.05
"""A pass of this many tokens is cut before padding is a larger share of it: 8 % in all over an episode of HuffPost
(5-way, 5 shots, 15 queries), where passes of up to 2,048 tokens alone computed 16 % (measured)."""

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
        max_length: tokens of one input, template included; longer texts lose their end.
    """

    template: str = "{prompt:8} {text} {prompt:4} {mask}"
    read_out: str = "mix"
    rows: str = "mix"
    name_source: str = "template"
    similarity: str = "cosine"
    prompt_start: str = "mask"
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
        max_tokens: tokens of one pass through the backbone; larger batches are cut by length.

    Raises:
        InputError: the template does not fit the model's positions; word embeddings asked for as rows
            of a backbone without a masked-LM head.
    """

    def __init__(self, backbone: Backbone, config: WarpConfig, *, max_tokens: int = 2048) -> None:
        if config.name_source == "embeddings" and backbone.head is None:
            raise InputError(
                f"backbone {backbone.name!r} has no masked-LM head, so its word embeddings do not live where "
                "its features do; use name_source template."
            )
        self.backbone, self.config, self.max_tokens = backbone, config, max_tokens
        length = min(config.max_length, backbone.max_positions)
        self.encoder = TextEncoder(Template(config.template), backbone.tokenizer, length)

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
        order = torch.argsort(batch.lengths)
        chunks = [self._features(prompts, mix, batch.select(rows), task[rows]) for rows in self._chunks(batch, order)]
        return torch.cat(chunks)[torch.argsort(order)]

    def _chunks(self, batch: EncodedBatch, order: Tensor) -> list[Tensor]:
        """Rows in the order of their length, cut where padding or the whole would grow too large."""
        lengths = batch.lengths[order].tolist()
        cuts, tokens = [0], 0
        for row, length in enumerate(lengths):
            padded = (row + 1 - cuts[-1]) * length
            wasteful = tokens >= WORTH_A_PASS and tokens + length < (1 - PADDING) * padded
            if row > cuts[-1] and (wasteful or padded > self.max_tokens):
                cuts.append(row)
                tokens = 0
            tokens += length
        return [order[start:end] for start, end in pairwise([*cuts, len(order)])]

    def _features(self, prompts: Tensor, mix: Tensor | None, batch: EncodedBatch, task: Tensor) -> Tensor:
        batch = batch.to(self.backbone.device)
        embeddings = self.backbone.word_embeddings[batch.input_ids].to(prompts.dtype)
        if self.encoder.prompt_length:
            soft = prompts[task[:, None], batch.prompt_index.clamp(min=0)]
            embeddings = torch.where(batch.prompt_index[..., None] >= 0, soft, embeddings)
        if self.config.read_out == "mask":
            at_mask = self.backbone.hidden_at(embeddings, batch.attention_mask, batch.mask_position)
            return self.unit(self.backbone.mask_features(at_mask).to(prompts.dtype))
        hidden = self.backbone.hidden_states(embeddings, batch.attention_mask)
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
