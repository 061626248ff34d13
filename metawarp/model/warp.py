"""The forward pass of WARP: prompts and encoded texts to features, features and verbalizer rows to logits.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL: p(c) = softmax(f(x)·V_c),
    f(x) the masked language model's output at [MASK] before the decoder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.forms.forms import form_of
from metawarp.model.config import WarpConfig
from metawarp.model.prompted_features import PromptedFeatures
from metawarp.model.replaced_words import ReplacedWords
from metawarp.texts.encoded import EncodedBatch
from metawarp.texts.lower_layers import LowerLayers
from metawarp.texts.template import Template, TextEncoder
from metawarp.texts.text_features import TextFeatures

logger = logging.getLogger(__name__)

State = dict[str, Tensor]
"""Learned numbers by name; every function of this package that takes one leaves it as it was."""


class Warp:
    """A backbone and a configuration: the pure functions from states and texts to features and logits.

    Args:
        backbone: frozen.
        config: what surrounds and reads it.
        like: a model of the same backbone, template, lengths and `prompt_layer`, whose readers, and what they remember
            of texts, this one shares; None: it has its own.

    Raises:
        InputError: the template does not fit the model's positions; word embeddings asked for as rows where the
            features are no such; the backbone has no such layer, or is no discriminator.
    """

    def __init__(self, backbone: Backbone, config: WarpConfig, like: Warp | None = None) -> None:
        at_mask = config.read_out == "mask" and backbone.head is not None
        if config.name_source == "embeddings" and not (at_mask or config.read_out == "original"):
            raise InputError(
                f"word embeddings live where the features of a masked-LM head at [MASK] do, and not where those of "
                f"backbone {backbone.name!r} with read-out {config.read_out!r} are; use name_source template."
            )
        self.backbone, self.config = backbone, config
        if not 0 <= config.prompt_layer < backbone.n_layers:
            raise InputError(
                f"prompt_layer is {config.prompt_layer}; backbone {backbone.name!r} has the layers 0 to "
                f"{backbone.n_layers - 1}."
            )
        layers = [backbone.n_layers - below for below in config.layers_below]
        if layers and min(layers) < 1:
            raise InputError(
                f"read-out {config.read_out!r} lies below the first layer; backbone {backbone.name!r} has "
                f"{backbone.n_layers}."
            )
        length = min(config.max_length, backbone.max_positions)
        self.encoder = (
            like.encoder if like else TextEncoder(Template(config.template), backbone.tokenizer, length, config.stride)
        )
        lower = LowerLayers(backbone, config.prompt_layer) if config.prompt_layer else None
        self.lower = like.lower if like else lower
        shared = like is not None and like.config.layers_below == config.layers_below
        self.text = like.text if like and shared else TextFeatures(backbone, layers) if layers else None
        self.sentence = like.sentence if like else TextFeatures(backbone, [backbone.n_layers])
        (form, number), empty = form_of(config.form), self.encoder([""])
        self.form = form(backbone, empty, config.prompt_layer, self.lower, self.sentence, number)
        self.prompted = PromptedFeatures(backbone, config.parts, self.form, empty if config.debias else None)
        self.replaced = ReplacedWords(backbone, self.form) if config.read_out == "original" else None

    def changed(self, **settings: str) -> Warp:
        """The same model with other settings of its config, none of those that readers depend on (see `like`)."""
        return Warp(self.backbone, replace(self.config, **settings), like=self)

    @property
    def rows_inside(self) -> bool:
        """Whether rows are read inside the texts (read-out "original"), and not compared with features of theirs."""
        return self.replaced is not None

    @property
    def prompt_is_read(self) -> bool:
        """Whether anything that is read depends on the prompt."""
        return self.form.size > 0 and (bool(self.prompted.sizes) or self.rows_inside)

    @property
    def row_size(self) -> int:
        """Width of a verbalizer row: of the features f(x), and of a bias where rows are fitted by regression.

        Of word embeddings, where rows are read inside the texts.
        """
        if self.rows_inside:
            return self.backbone.embedding_size
        return len(self.last_layer) + (self.config.rows == "regression")

    @cached_property
    def last_layer(self) -> Tensor:
        """(d,) which of the features are of the last layer; all where there are no others.

        A regression compares a name with texts in these alone. Sentence encoders are trained to bring a text and what
        describes it together there; lower down texts of one class are near each other, and the class's name is not.
        """
        sizes = {part: self.backbone.hidden_size for part in self.config.parts}
        if "mask" in sizes:
            sizes["mask"] = self.backbone.feature_size
        last = {part: not part.startswith("text-") for part in sizes}
        found = [torch.full((size,), last[part] or not any(last.values())) for part, size in sizes.items()]
        return torch.cat(found).to(self.backbone.device)

    def remember(self, texts: Sequence[str], cache: str | Path | None = None) -> None:
        """Prepare the texts of a corpus once, for all the episodes that will hold them.

        Args:
            texts: they are tokenized; a warning says how many are too long and lose their end.
            cache: folder for what the layers below the prompt make of them; None keeps it in memory, as they come.

        Raises:
            InputError: the folder cannot be used, or the prompt enters at layer 0.
        """
        self.encoder.remember(texts)
        if (cut := self.encoder.too_long(texts)) and not self.config.stride:
            logger.warning(
                "%d of %d texts are longer than %d tokens and lose their end (max_length is %d, template included); "
                "with a stride they are read in windows",
                cut,
                len(texts),
                self.encoder.room,
                self.config.max_length,
            )
        if cache is None:
            return
        if self.lower is None:
            raise InputError("a cache is for what lies below the prompt, and nothing lies below layer 0; leave it out.")
        self.lower.remember(self.encoder.windows(self.encoder(list(dict.fromkeys(texts))))[0], Path(cache))

    def features(
        self, prompts: Tensor, weights: Tensor | None, batch: EncodedBatch, task: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Read-out f(x) of each text under its own task's prompt.

        Args:
            prompts: (T, …), one prompt a task, of the form's shape; or (1, …), the same for all, and a text that
                several tasks hold is read once.
            weights: (P,) of the read-out's parts, their sum 1; None where there is one part.
            batch: B encoded texts.
            task: (B,) which task each text belongs to.
            rows: (T, C, d) of the tasks, where rows are read inside the texts; not needed otherwise.

        Returns:
            (B, d) features, d over all parts; unit length under cosine similarity. (B, C) with the read-out "original".
        """
        copies = slice(None)
        if len(prompts) == 1 and not self.rows_inside:
            if batch.shift is None:
                _, copies = torch.unique(batch.input_ids, dim=0, return_inverse=True)
                first = torch.zeros(int(copies.max()) + 1, dtype=torch.long)
                batch = batch.select(first.scatter_(0, copies, torch.arange(len(batch))))
            task = torch.zeros(len(batch), dtype=torch.long, device=task.device)
        number = len(batch)
        batch, text = self.encoder.windows(batch)
        task = task[text.to(task.device)]
        if self.replaced is None:
            found = self.prompted(prompts, batch, task)
        else:
            assert rows is not None
            found = {self.config.read_out: self.replaced(prompts, rows, batch, task)}
        if self.text is not None:
            found |= self.of_text_alone(self.text(batch).to(prompts.dtype))
        if len(batch) > number:
            found = {part: _mean_by(text.to(windows.device), number, windows) for part, windows in found.items()}
        return self.joined(found, weights)[copies]

    def of_text_alone(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Embeddings (B, L, h) of texts alone, as the parts of the read-out that they are."""
        return dict(zip(self.config.text_parts, embeddings.unbind(1), strict=True))

    def joined(self, found: dict[str, Tensor], weights: Tensor | None) -> Tensor:
        """The read-out (B, d) of its parts by name, each as long as its weight (P,) says."""
        parts = [self.unit(found[part]) for part in self.config.parts]
        if weights is not None:
            parts = [weight.sqrt() * part for weight, part in zip(weights, parts, strict=True)]
        return torch.cat(parts, dim=-1)

    def unit(self, vectors: Tensor) -> Tensor:
        """Vectors (…, d) as the similarity compares them: of unit length for cosine, unchanged for dot.

        Unchanged too where they are words in a text, which nothing is compared with.
        """
        compared = self.config.similarity == "cosine" and not self.rows_inside
        return normalize(vectors, dim=-1) if compared else vectors

    def logits(self, features: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
        """Logits (…, C) of features (…, d) and verbalizer rows (…, C, `row_size`).

        They are scale · similarity(f, V); with rows from a regression, scale · what it predicts; with the read-out
        "original", scale · f.
        """
        if self.rows_inside:
            return scale * features
        if self.config.rows == "regression":
            return scale * torch.einsum("...d,...cd->...c", with_bias(features), rows)
        return scale * torch.einsum("...d,...cd->...c", features, self.unit(rows))


def _mean_by(text: Tensor, number: int, windows: Tensor) -> Tensor:
    # Means (B, d) of windows (W, d) over those of each text (W,).
    total = windows.new_zeros(number, windows.shape[1]).index_add(0, text, windows)
    return total / torch.bincount(text, minlength=number)[:, None]


def with_bias(features: Tensor) -> Tensor:
    """Features (…, d) and a one, (…, d + 1): what rows with a bias are multiplied with."""
    return pad(features, (0, 1), value=1.0)
