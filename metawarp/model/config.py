"""What a WARP model is made of, beside its numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from episodes import InputError
from metawarp.forms.forms import form_of
from metawarp.texts.template import Template

CHOICES = {
    "rows": ("names", "support", "mix", "regression", "random"),
    "name_source": ("template", "embeddings"),
    "similarity": ("cosine", "dot"),
    "prompt_start": ("mask", "vocabulary", "normal"),
}


@dataclass(frozen=True)
class WarpConfig:
    """What a WARP model is made of, beside its numbers.

    Args:
        template: what stands around a text (see `Template`).
        read_out: f(x), one part or several with + between: "mask", the feature at [MASK] (WARP); "mean", the mean over
            the text's hidden states under the prompt; "text", the same of the text alone, the backbone's own sentence
            embedding; "text-1", "text-2", …, the same so many layers below the last. Several stand side by side with
            learned weights, so that the similarity of two texts is the weighted mean of those of their parts. Or
            "original", alone: how original a discriminator finds each class's row at [MASK], the logits themselves.
        rows: where verbalizer rows come from: "names" of the classes, means of the "support" features,
            "mix", w·name + (1 - w)·mean with w falling with the shots, "regression", logistic regression on the support
            texts and the names, each name counting as a learned number of texts, or "random".
        name_source: how a name becomes a row: read through the same "template" as the texts, or the mean of
            its word "embeddings", where the features of a masked-LM head at [MASK] live, or the read-out "original".
        debias: whether what [MASK] gives in the template without any text is taken off what it gives with one:
            f(x) - f("") (PromptBERT: Jiang et al., 2022, EMNLP, sec. 3.2).
        similarity: "cosine" or "dot" product of feature and row, times a learned scale.
        prompt_start: soft tokens start from "mask" (WARP), random words of the "vocabulary", or "normal" noise.
        prompt_layer: layer that the soft tokens enter at; the layers below see the text and the template's words
            alone, so that what they make of a text can be kept. 0 is WARP.
        form: what a task has for itself, and how it enters: "input", soft tokens (WARP); "deep", soft tokens of its own
            before every layer from `prompt_layer` on; "prefix", keys and values there; "pool:8", eight prompts that
            each text mixes; "lora:8", weights of rank 8 beside those of the attention; "weights", those of the layers
            themselves. All but prefix take the template's soft tokens along.
        max_length: tokens of one input, template included; longer texts lose their end.
        stride: unless 0, a longer text is read in windows instead, which start so many of its tokens apart, and its
            read-outs are the means of theirs.
    """

    template: str = "{prompt:8} {text} {prompt:4} {mask}"
    read_out: str = "text+text-2+mean+mask"
    rows: str = "regression"
    name_source: str = "template"
    debias: bool = False
    similarity: str = "cosine"
    prompt_start: str = "mask"
    prompt_layer: int = 0
    form: str = "input"
    max_length: int = 128
    stride: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(choices)}.")
        form_of(self.form)
        if self.debias and "mask" not in self.parts:
            raise InputError(f"debias is of what [MASK] gives, and read_out {self.read_out!r} has no mask; drop it.")
        if self.read_out == "original" and (self.rows, self.name_source) != ("names", "embeddings"):
            raise InputError(
                "read-out 'original' scores the word of each class, so it needs rows names and name_source embeddings; "
                f"this has rows {self.rows} and name_source {self.name_source}."
            )
        unknown = [part for part in self.parts if not re.fullmatch(r"original|mask|mean|text(-[1-9][0-9]*)?", part)]
        alone = "original" not in self.parts or len(self.parts) == 1
        if unknown or len(set(self.parts)) < len(self.parts) or not alone:
            raise InputError(
                f"read_out is {self.read_out!r}; it can be mask, mean, text, text-1, text-2, …, "
                "or several of them, each once, with + between; or original."
            )
        if {"mask", "original"} & set(self.parts) and not Template(self.template).has_mask:
            raise InputError(
                f"template {self.template!r} has no {{mask}}, which read-out {self.read_out!r} needs; "
                "add {mask}, or use the read-out mean."
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The P parts of the read-out."""
        return tuple(self.read_out.split("+"))

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Those of the text alone."""
        return tuple(part for part in self.parts if part.startswith("text"))

    @property
    def layers_below(self) -> tuple[int, ...]:
        """How many layers below the last the texts alone are read at."""
        return tuple(int(part.partition("-")[2] or 0) for part in self.text_parts)
