"""Discriminators: is the word of a class, put in the place of [MASK], original there?

Such a model was never asked what stands at [MASK], but which tokens of a text were replaced. So a verbalizer row is an
embedding here, that of a word, and a text is read once for each class, with that class's row in its place.

References:
    Xia, Artetxe, Du, Chen, Stoyanov (2022), "Prompting ELECTRA: Few-Shot Learning with Discriminative Pre-Trained
    Models", EMNLP, sec. 3: p(c) in proportion to exp of how original the discriminator finds the word of c.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.forms.form import Form
from metawarp.forms.input_prompt import InputPrompt
from metawarp.texts.encoded import EncodedBatch


class ReplacedWords:
    """The read-out "original".

    Args:
        backbone: frozen, a discriminator.
        form: of the prompt: soft tokens at the input, among which the rows then stand.

    Raises:
        InputError: the backbone is no discriminator; another form, or one at a later layer.
    """

    def __init__(self, backbone: Backbone, form: Form) -> None:
        if backbone.detector is None:
            raise InputError(
                f"read-out 'original' asks whether a class's word was replaced, which backbone {backbone.name!r} was "
                "not trained to tell; use a discriminator, such as google/electra-base-discriminator, or another "
                "read-out."
            )
        if not isinstance(form, InputPrompt) or form.layer:
            raise InputError("read-out 'original' puts rows among soft tokens at the input; use form input at layer 0.")
        self.backbone, self.form = backbone, form

    def __call__(self, prompts: Tensor, rows: Tensor, batch: EncodedBatch, task: Tensor) -> Tensor:
        """How original each row of its task looks in each text, (B, C): minus the discriminator's logit.

        Rows that stand for no class, where tasks have different numbers of them, are read like the others.

        Args:
            prompts: (T, K, d), or (1, K, d) the same for all tasks.
            rows: (T, C, d) in the space of the word embeddings.
            batch: B encoded texts.
            task: (B,) which task each belongs to.
        """
        ways = rows.shape[1]
        text = torch.arange(len(batch)).repeat_interleave(ways)
        pair = (task[:, None] * ways + torch.arange(ways, device=task.device)).flatten()
        soft = torch.cat([prompts.expand(len(rows), -1, -1)[:, None].expand(-1, ways, -1, -1), rows[:, :, None]], dim=2)
        shown = _with_row(batch, soft.shape[2] - 1)
        found = shown.select(text).in_passes(
            self.backbone.max_tokens, lambda some, some_rows: self._logits(soft.flatten(0, 1), some, pair[some_rows])
        )
        return -found.view(len(batch), ways)

    def _logits(self, soft: Tensor, batch: EncodedBatch, pair: Tensor) -> Tensor:
        batch = batch.to(self.backbone.device)
        hidden = self.form.hidden({"prompt": soft}, batch, pair, batch.mask_position)
        return self.backbone.detector(hidden).to(soft.dtype)  # pyright: ignore


def _with_row(batch: EncodedBatch, number: int) -> EncodedBatch:
    """The texts with soft token `number` where [MASK] stands."""
    index = batch.prompt_index.clone()
    index[torch.arange(len(batch)), batch.mask_position] = number
    return replace(batch, prompt_index=index)
