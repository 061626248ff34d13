"""What a fresh init holds: the numbers that learning starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metawarp.adaptation.inner_loop import RATES, InnerLoop, InnerRates
from metawarp.adaptation.randomness import generator_of
from metawarp.model.config import WarpConfig
from metawarp.model.warp import State, Warp

LOGIT_SCALE = 10.0
"""Of cosines; what a discriminator says of a word is a logit already."""
NAME_WEIGHT = -1.2
"""m of w = 1 / (1 + K·e^m): 0.77 at one shot, 0.40 at five, the weights found best untrained on HuffPost."""
TEXT_WEIGHT = 0.5
"""Logit of the read-out's part "text", the others' being 0: of four parts it has the weight 0.35 at first. Parts that
the prompt does not reach begin with more than half of the whole, parts that it does with enough for a gradient."""
REGRESSION = {"log_strength": math.log(5), "log_name_count": math.log(6), "log_scale": math.log(2)}
"""Found best untrained, over four corpora, 1 to 10 shots, 5 to 66 classes; they differ little."""


def fresh_tensors(warp: Warp, inner: InnerLoop, rates: InnerRates, seed: int, words: bool) -> State:
    """The tensors of an init that nothing was learned by; the arguments are those of `Init.start`."""
    tensors = {
        "prompt": _start_prompt(warp, seed, words),
        "log_scale": torch.tensor(math.log(LOGIT_SCALE) if not warp.rows_inside else 0.0),
    }
    if warp.config.rows == "mix":
        tensors["name_weight"] = torch.tensor(NAME_WEIGHT)
    if warp.config.rows == "regression":
        tensors |= {name: torch.tensor(start) for name, start in REGRESSION.items()}
    if len(parts := warp.config.parts) > 1:
        tensors["read_out"] = torch.tensor([TEXT_WEIGHT if part == "text" else 0.0 for part in parts])
    for group in inner.moving:
        tensors[RATES + group] = torch.full((inner.steps,), math.log(getattr(rates, group)))
    return tensors


def tensor_names(config: WarpConfig, inner: InnerLoop) -> set[str]:
    """Names of the tensors that an init of this kind has."""
    names = {"prompt", "log_scale"}
    names |= {"name_weight"} if config.rows == "mix" else set()
    names |= set(REGRESSION) if config.rows == "regression" else set()
    names |= {"read_out"} if len(config.parts) > 1 else set()
    return names | {RATES + group for group in inner.moving}


def _start_prompt(warp: Warp, seed: int, with_words: bool) -> Tensor:
    """(K, d): words where the template gives them, the configured start elsewhere."""
    backbone, words = warp.backbone, warp.encoder.prompt_words
    embeddings = backbone.word_embeddings.float().cpu()
    generator = generator_of(seed, "prompt")
    size = (len(words), backbone.embedding_size)
    if warp.config.prompt_start == "normal":
        # As wide as the model's own embeddings, so that layer norm sees nothing out of the ordinary.
        prompt = torch.randn(size, generator=generator) * embeddings.std()
    elif warp.config.prompt_start == "vocabulary":
        prompt = embeddings[torch.randint(len(embeddings), size[:1], generator=generator)]
    else:
        prompt = embeddings[backbone.tokenizer.mask_token_id].expand(size).clone()
    for row, word in enumerate(words if with_words else ()):
        if word is not None:
            prompt[row] = embeddings[word]
    form = warp.form
    return form.joined(form.start(prompt.to(backbone.device), generator_of(seed, "form"))).cpu()
