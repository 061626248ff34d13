"""Settings of the outer loop."""

import math
from dataclasses import dataclass
from typing import Literal

from episodes.errors import InputError, listing
from episodes.schemas import Strict
from metawarp.config import InnerLoop, require_choices, require_positive
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import LEARNING_RATES, InitParameters, tensors_of
from metawarp.warp import Warp

RECIPE = 3
"""Raised whenever equal settings, corpora and seeds would give another init, or an init would predict differently."""


@dataclass(frozen=True)
class TrainingConfig(Strict):
    """Settings of the outer loop.

    Args:
        steps: number of outer steps.
        meta_batch_size: number T of tasks whose meta-gradients are averaged in one step.
        lr: AdamW's learning rate of the adapter; 0 does not train it, and is faster, because the features of a text are
            computed once.
        scalar_lr: AdamW's learning rate of the scale, read-out weights, verbalizer scalars and inner learning rates.
        read_out_lr: AdamW's learning rate of the read-out weights, which 0 keeps where they start; None: `scalar_lr`.
        weight_decay: AdamW's decoupled weight decay, towards the start of the init and not towards zero (L2-SP).
        warmup: share of the steps in which the learning rates rise from 0; they then fall to 0 along a cosine.
        max_grad_norm: largest norm of a meta-gradient; longer ones are scaled down to it.
        second_order: how second-order meta-gradients are computed: "unroll" keeps the graph of the inner loop,
            "recompute" needs memory that does not grow with the inner steps, "auto" unrolls what fits into half of the
            free memory.
        query_loss: outer loss: the query loss after the "last_step", or "multi_step", MAML++'s loss over all inner
            steps, annealed to the last one over the first half of the training.
        reparameterization: network through which soft tokens are trained, removed when the init is saved.
        regularizer: loss that is added to the outer loss.
        regularizer_weight: weight of the regularizer in the outer loss.
        regularizer_epsilon: length of the regularizer's perturbation of a token, relative to the token embedding.
        validate_every: number of steps between two validations. A validation evaluates the average of the inits since
            the previous one.
        validation_episodes: number of episodes of each validation, always the same ones.
        patience: number of validations without improvement after which training stops.
        checkpoint_every: number of steps between two checkpoints.
    """

    steps: int = 200
    meta_batch_size: int = 4
    lr: float = 3e-3
    scalar_lr: float = 1e-2
    read_out_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.05
    max_grad_norm: float = 1.0
    second_order: Literal["auto", "unroll", "recompute"] = "auto"
    query_loss: Literal["last_step", "multi_step"] = "last_step"
    reparameterization: Literal["none", "mlp", "lstm"] = "none"
    regularizer: Literal["none", "sift", "scal"] = "none"
    regularizer_weight: float = 1.0
    regularizer_epsilon: float = 0.05
    validate_every: int = 20
    validation_episodes: int = 60
    patience: int = 5
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        require_choices(self)
        counts = ("steps", "meta_batch_size", "validate_every", "validation_episodes", "patience", "checkpoint_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("scalar_lr", "max_grad_norm", "regularizer_weight", "regularizer_epsilon"):
            require_positive(name, getattr(self, name))
        for name in ("lr", "weight_decay", "read_out_lr"):
            if (value := getattr(self, name)) is not None:
                require_positive(name, value, or_zero=True)
        if not self.lr and self.reparameterization != "none":
            raise InputError(f"lr=0 does not train reparameterization={self.reparameterization!r}; raise lr.")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup={self.warmup} must be a share of the steps, from 0 to below 1.")

    def learning_rates(self, init: InitParameters, *, learn_inner: bool = True) -> dict[str, float]:
        """AdamW's learning rate of each tensor of an init; 0 for one that keeps its start."""
        rates = dict.fromkeys(tensors_of(init), self.scalar_lr)
        if self.read_out_lr is not None and "read_out_logits" in rates:
            rates["read_out_logits"] = self.read_out_lr
        rates |= {name: self.lr for name in ("adapter", "corpus_class_embeddings") if name in rates}
        return rates if learn_inner else rates | {name: 0.0 for name in LEARNING_RATES.values() if name in rates}

    def schedule(self, step: int) -> float:
        """Factor of the learning rates at a step, 0 to 1: linear warm-up, then a cosine to 0."""
        warm = self.warmup * self.steps
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))

    def require_method(self, name: MethodName, warp: Warp, inner: InnerLoop) -> None:
        """Check that a method supports these settings and the model; InputError names those that do not go together."""
        method, read_out, depends_on = METHODS[name], warp.config.read_out, warp.read_out.depends_on
        scores_classes = "class_embeddings" in depends_on
        warp.require_readable(inner)
        if self.second_order != "auto" and method.order < 2:
            raise InputError(f"second_order={self.second_order!r} needs a second-order method, not method={name!r}.")
        supported = [other for other, m in METHODS.items() if m.order and m.inner.updates]
        if self.query_loss == "multi_step" and name not in supported:
            raise InputError(f"query_loss='multi_step' is not supported by method={name!r}; use {listing(supported)}.")
        if not self.lr and method.needs_adapter_lr:
            raise InputError(f"lr=0 learns nothing with method={name!r}; raise it.")
        if self.regularizer != "none" and "adapter" not in depends_on:
            needed = f"needs a read-out that depends on the prompt, but read_out={read_out!r} does not"
            raise InputError(f"regularizer={self.regularizer!r} {needed}; add pooled or mask to it.")
        if self.regularizer == "scal" and scores_classes:
            raise InputError(f"regularizer='scal' compares features, but read_out={read_out!r} has none; use 'sift'.")
        if method.learns_corpus_classes and scores_classes:
            raise InputError(f"method={name!r} needs features, but read_out={read_out!r} has none; change one of them.")
