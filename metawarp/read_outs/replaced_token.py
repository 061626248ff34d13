"""Scores of classes by a discriminator: how original it finds the word of each class in the place of [MASK].

A discriminator is not trained to predict the word at [MASK], but to find the replaced tokens of a text. A class
embedding is therefore a word embedding, and a text is read once for each class, with that embedding in the place of
[MASK].

References:
    Xia, Artetxe, Du, Chen, Stoyanov (2022), "Prompting ELECTRA: Few-Shot Learning with Discriminative Pre-Trained
    Models", EMNLP, sec. 3: p(c) is proportional to exp of how original the discriminator finds the word of c.
"""

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from episodes import InputError
from metawarp.adapters.adapter import Adapter, n_values
from metawarp.adapters.prompt import Prompt
from metawarp.config import Group, WarpConfig
from metawarp.parameters import TaskParameters
from metawarp.read_outs.read_out import ReadOut, mean_over_windows, over_windows
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.text_encoder import TextEncoder


@final
class ReplacedToken(ReadOut):
    """A score of each class. Nothing is cached, because scores depend on class embeddings."""

    def __init__(self, config: WarpConfig, encoder: TextEncoder, adapter: Adapter, cache: FeatureCache | None) -> None:
        backbone = adapter.context.backbone
        if backbone.discriminator_head is None:
            needed = "a discriminator, such as google/electra-base-discriminator"
            raise InputError(f"read_out='replaced_token' needs {needed}; backbone {backbone.name!r} is not one.")
        if not isinstance(adapter, Prompt) or adapter.context.layer or config.name_source != "embeddings":
            names = ("adapter", "adapter_layer", "name_source")
            given = ", ".join(f"{name}={getattr(config, name)!r}" for name in names)
            needed = "adapter='prompt', adapter_layer=0 and name_source='embeddings'"
            raise InputError(f"read_out='replaced_token' needs {needed}; got {given}.")
        self._encoder, self._adapter, self._backbone = encoder, adapter, backbone
        self._head = backbone.discriminator_head

    @property
    def depends_on(self) -> tuple[Group, ...]:
        return ("adapter", "class_embeddings") if n_values(self._adapter) else ("class_embeddings",)

    @property
    def feature_size(self) -> int:
        return self._backbone.embedding_size

    @property
    def in_last_layer(self) -> Tensor:
        return torch.ones(self.feature_size, dtype=torch.bool)

    def __call__(self, parameters: TaskParameters, batch: EncodedBatch, task: Tensor) -> Tensor:
        """Scores (B, C): minus the discriminator's logit that the class embedding was replaced."""
        windows, task, text = over_windows(self._encoder, batch, task)
        classes = parameters.class_embeddings
        n_tasks, n_way = classes.shape[:2]
        pair = (task[:, None] * n_way + torch.arange(n_way, device=task.device)).flatten()
        prompts = parameters.adapter.expand(n_tasks, -1, -1)[:, None].expand(-1, n_way, -1, -1)
        soft_tokens = torch.cat([prompts, classes[:, :, None]], dim=2).flatten(0, 1)
        prompt_index = windows.prompt_index.clone()
        prompt_index[torch.arange(len(windows)), windows.mask_position] = soft_tokens.shape[1] - 1  # the class
        with_class = replace(windows, prompt_index=prompt_index)

        def logits(part: EncodedBatch, rows: Tensor) -> Tensor:
            part = part.to(self._backbone.device)
            hidden = self._adapter.hidden_states({"prompt": soft_tokens}, part, pair[rows], head_at=part.mask_position)
            return self._head(hidden).to(soft_tokens.dtype)

        copies = with_class.select(torch.arange(len(windows)).repeat_interleave(n_way))
        scores = -copies.in_passes(self._backbone.max_tokens, logits).view(len(windows), n_way)
        return mean_over_windows(scores, text, len(batch))
