"""The numbers that a fresh init holds, before anything is learned."""

import math

import torch
from torch import Tensor

from metawarp.adaptation.leave_one_out import LOSSES
from metawarp.adapters.adapter import join
from metawarp.config import InnerLearningRates, InnerLoop
from metawarp.parameters import LEARNING_RATES, InitParameters, init_shapes
from metawarp.randomness import generator_for
from metawarp.warp import Warp

SENTENCE_LOGIT = 0.5
"""Start of the read-out logit of "text", or of "pooled" in a read-out without it; the others start at 0. Of four
features it then has the weight 0.35."""


def fresh_parameters(
    warp: Warp, inner: InnerLoop, rates: InnerLearningRates, seed: int, use_words: bool
) -> InitParameters:
    """The parameters of a fresh init, before anything is learned; the arguments are those of `Init.start`."""
    logs = {LEARNING_RATES[group]: math.log(rates.of(group, inner)) for group in inner.moving}
    if inner.leaves_one_out:
        logs["log_loss_scale"] = math.log(LOSSES[inner.loss].scale)
    values = {**warp.verbalizer.scalars, **logs}
    shapes = init_shapes(warp.config, inner, warp.verbalizer.scalars, len(warp.adapter.shapes))
    tensors = {name: torch.full(shape, values.get(name, 0.0)) for name, shape in shapes.items()}
    if "read_out_logits" in tensors:
        features = warp.config.features
        for sentence in [name for name in ("text", "pooled") if name in features][:1]:
            tensors["read_out_logits"][features.index(sentence)] = SENTENCE_LOGIT
    return InitParameters(adapter=_fresh_adapter(warp, seed, use_words), **tensors)


def _fresh_adapter(warp: Warp, seed: int, use_words: bool) -> Tensor:
    """Start of the adapter: soft tokens from the template's words, and from the configured start elsewhere."""
    backbone, words = warp.backbone, warp.encoder.prompt_word_ids
    embeddings = backbone.word_embeddings.float().cpu()
    generator = generator_for(seed, "prompt")
    size = (len(words), backbone.embedding_size)
    if warp.config.prompt_start == "normal":
        # As wide as the model's own embeddings, so that layer norm sees nothing unusual.
        soft_tokens = torch.randn(size, generator=generator) * embeddings.std()
    elif warp.config.prompt_start == "vocabulary":
        soft_tokens = embeddings[torch.randint(len(embeddings), size[:1], generator=generator)]
    else:
        soft_tokens = embeddings[backbone.mask_token_id].expand(size).clone()
    for row, word in enumerate(words if use_words else ()):
        if word is not None:
            soft_tokens[row] = embeddings[word]
    # The purpose of the second generator is part of its seed, and so of every published init: it stays "form".
    parts = warp.adapter.start(soft_tokens.to(backbone.device), generator_for(seed, "form"))
    return join(warp.adapter, parts).cpu()
