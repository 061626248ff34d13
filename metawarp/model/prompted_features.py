"""Features of texts under prompts; those under a prompt that is not being learned are computed once for each text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metawarp.backbones.backbone import Backbone
from metawarp.backbones.family import at_positions
from metawarp.forms.form import Form
from metawarp.texts.cache import TensorCache
from metawarp.texts.encoded import EncodedBatch
from metawarp.texts.text_features import mean_over

LIMIT = 2**28
"""Bytes of features that are cached in memory."""


class PromptedFeatures:
    """The parts "mean" and "mask" of a read-out.

    Args:
        backbone: frozen.
        parts: of the read-out; others are not this one's.
        form: of the prompt.
        bias: an empty text in its template, whose part "mask" is taken off that of the others; None: nothing is.
    """

    def __init__(self, backbone: Backbone, parts: Sequence[str], form: Form, bias: EncodedBatch | None = None) -> None:
        self.backbone, self.form, self.bias = backbone, form, bias
        sizes = {"mean": backbone.hidden_size, "mask": backbone.feature_size}
        self.sizes = {part: sizes[part] for part in parts if part in sizes}
        self._prompt, self._cache = torch.empty(0), TensorCache(LIMIT)

    def __call__(self, prompts: Tensor, batch: EncodedBatch, task: Tensor) -> dict[str, Tensor]:
        """By part, the features (B, h) of each text under its task's prompt.

        Args:
            prompts: (T, …) of the form's shape.
            batch: B encoded texts.
            task: (B,) which task each belongs to.
        """
        if not self.sizes:
            return {}
        found = self._found(prompts, batch, task)
        if self.bias is not None:
            tasks = torch.arange(len(prompts), device=task.device)
            bias = self._found(prompts, self.bias.select(torch.zeros(len(prompts), dtype=torch.long)), tasks)
            found["mask"] = found["mask"] - bias["mask"][task]
        return found

    def _found(self, prompts: Tensor, batch: EncodedBatch, task: Tensor) -> dict[str, Tensor]:
        if len(prompts) > 1 or prompts.requires_grad or batch.shift is not None:
            found = batch.in_passes(self.backbone.max_tokens, lambda some, rows: self._pass(prompts, some, task[rows]))
        else:
            found = self._cache_of(prompts).of(batch, lambda new: self._alone(prompts, new)).to(prompts.device)
        return dict(zip(self.sizes, found.split(list(self.sizes.values()), dim=-1), strict=True))

    def _cache_of(self, prompts: Tensor) -> TensorCache:
        """Of texts under this prompt; a change of the prompt forgets all."""
        if self._prompt.dtype != prompts.dtype or not torch.equal(self._prompt, prompts.cpu()):
            self._prompt, self._cache = prompts.detach().cpu().clone(), TensorCache(LIMIT)
        return self._cache

    @torch.no_grad()
    def _alone(self, prompt: Tensor, batch: EncodedBatch) -> Tensor:
        first = torch.zeros(len(batch), dtype=torch.long, device=prompt.device)
        return batch.in_passes(self.backbone.max_tokens, lambda some, rows: self._pass(prompt, some, first[rows]).cpu())

    def _pass(self, prompts: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
        found = self.read(prompts, self.form.shown(batch).to(self.backbone.device), task)
        return torch.cat([found[part].to(prompts.dtype) for part in self.sizes], dim=-1)

    def read(self, prompts: Tensor, batch: EncodedBatch, task: Tensor) -> dict[str, Tensor]:
        """By part, the features (B, h) of texts as the form shows them, computed in one pass."""
        parts, found = self.form.parted(prompts), {}
        hidden = self.form.hidden(parts, batch, task) if "mean" in self.sizes else None
        if hidden is not None:
            found["mean"] = mean_over(hidden, batch.text_mask)
        if "mask" in self.sizes:
            if hidden is None or self.backbone.decoder is not None:
                at_mask = self.form.hidden(parts, batch, task, batch.mask_position)
            else:
                at_mask = at_positions(hidden, batch.mask_position)
            found["mask"] = self.backbone.mask_features(at_mask)
        return found
