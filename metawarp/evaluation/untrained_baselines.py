"""Baselines that are the model itself, without meta-training."""

from dataclasses import replace
from typing import Literal

from metawarp.config import InnerLearningRates, InnerLoop
from metawarp.evaluation.predictors import Predictor, metawarp_predictor
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.inits.init import Init
from metawarp.texts.template import Template
from metawarp.warp import Warp


def tuned_class_embeddings(encode: SentenceEncoder, rate: float, inner_steps: int = 10) -> Predictor:
    """Class embeddings mixed from names and means of sentence embeddings, then gradient steps on them alone."""
    inner = InnerLoop(inner_steps, ("class_embeddings",))
    start = Init.start(encode.warp, inner, rates=InnerLearningRates(class_embeddings=rate))
    return metawarp_predictor(encode.warp, start.on(encode.warp.backbone), inner)


def repverb(warp: Warp) -> Predictor:
    """RepVerb without training: features at [MASK] of the untrained template, and means of the support features."""
    read_out = "mask" if Template(warp.config.template).has_mask else "mean"
    config = replace(warp.config, read_out=read_out, verbalizer="support", name_source="template", prompt_start="mask")
    model = Warp(warp.backbone, config, warp.cache)
    return metawarp_predictor(model, Init.start(model, InnerLoop()).on(warp.backbone), InnerLoop())


def untrained_warp(warp: Warp, init: Init, prompt_start: Literal["mask", "normal"], seed: int) -> Predictor:
    """The init's own model and inner loop, with all soft tokens at [MASK] or at normal noise."""
    model = Warp(warp.backbone, replace(warp.config, prompt_start=prompt_start), warp.cache)
    rates = InnerLearningRates(**init.training.get("inner_lr", {}))
    start = Init.start(model, init.inner, seed=seed, rates=rates, use_words=False)
    return metawarp_predictor(model, start.on(warp.backbone), init.inner)
