"""Settings of the outer loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from episodes import InputError
from episodes.errors import listing
from metawarp.adaptation.inner_loop import InnerLoop, inner_rates, require_prompt
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.meta_learning.regularizers import REGULARIZERS
from metawarp.meta_learning.second_order import EXACT
from metawarp.model.warp import State, Warp
from metawarp.training.reparameterization import NETWORKS

MANY = ("prompt", "class_rows")
"""Tensors that `lr` is for; the others are scalars."""

RECIPE = 2
"""Raised whenever the same settings, corpora and seeds would give another init, or the same init other predictions."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the outer loop.

    Args:
        steps: outer steps.
        meta_batch: tasks T whose meta-gradients are averaged in one step.
        lr: AdamW's learning rate for the prompt (and the rows of `multitask`); 0 leaves the prompt where it starts, and
            then every text is read once.
        scalar_lr: the same for logit scale, mixes and inner learning rates, which have another scale.
        weight_decay: AdamW's decoupled decay, toward the start of the init and not toward zero (L2-SP).
        warmup: share of the steps in which the learning rate rises from 0; it then falls to 0 along a cosine.
        clip: largest norm of a meta-gradient; longer ones are shortened to it.
        second_order: how `maml` is exact: "unroll" the inner loop, "recompute" it step by step in memory that does not
            grow with the steps, or "auto".
        multi_step_loss: MAML++'s loss over all inner steps, annealed to the last over the first half of the steps.
        reparameterization: network that soft tokens are trained through, folded away on saving: "mlp", "lstm"; "none".
        regularizer: added to the outer loss, of `REGULARIZERS`: "sift" or "scal"; "none".
        regularizer_weight: factor of the regularizer in the outer loss.
        regularizer_size: ε, by how much of its length the regularizer shifts a token.
        validate_every: steps between two validations; each is of the mean of the inits after these steps.
        validation_episodes: episodes of each validation, always the same ones.
        patience: validations without a better one after which training stops.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 200
    meta_batch: int = 4
    lr: float = 3e-3
    scalar_lr: float = 1e-2
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    second_order: str = "auto"
    multi_step_loss: bool = False
    reparameterization: str = "none"
    regularizer: str = "none"
    regularizer_weight: float = 1.0
    regularizer_size: float = 0.05
    validate_every: int = 20
    validation_episodes: int = 60
    patience: int = 5
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "meta_batch",
            "validate_every",
            "validation_episodes",
            "patience",
            "checkpoint_every",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 at least.")
        for name, known in (("reparameterization", NETWORKS), ("regularizer", REGULARIZERS)):
            if getattr(self, name) not in ("none", *known):
                raise InputError(f"{name} is {getattr(self, name)!r}; it can be none, {listing(known)}.")
        for name in ("scalar_lr", "clip", "regularizer_weight", "regularizer_size"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; it must be a positive number.")
        if not (math.isfinite(self.lr) and self.lr >= 0):
            raise InputError(f"lr is {self.lr}; it must be a positive number, or 0 for a prompt that stays.")
        if not self.lr and self.reparameterization != "none":
            raise InputError("lr is 0, and a reparameterization is trained by it; raise it, or leave that out.")
        if self.second_order not in ("auto", *EXACT):
            raise InputError(f"second_order is {self.second_order!r}; it can be auto, {listing(EXACT)}.")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup}; it is a share of the steps, from 0 to below 1.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"weight_decay is {self.weight_decay}; it cannot be negative.")

    def learning_rates(self, state: State, *, inner_too: bool = True) -> dict[str, float]:
        """AdamW's learning rate of each tensor of an init; 0 for one that stays where it starts.

        Args:
            state: the tensors.
            inner_too: whether the inner learning rates are learned.
        """
        rates = dict.fromkeys(state, self.scalar_lr) | {name: self.lr for name in MANY if name in state}
        return rates if inner_too else rates | dict.fromkeys(inner_rates(state), 0.0)

    def rate(self, step: int) -> float:
        """Factor of the learning rates at a step, 0 to 1: linear warm-up, then a cosine to 0."""
        warm = self.warmup * self.steps
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))

    def require_method(self, name: str, warp: Warp, inner: InnerLoop) -> None:
        """Refuse a method that these settings, or the model, cannot be had with.

        Raises:
            InputError: no multi-step loss, no outer learning rate, no prompt that anything reads, no features to
                compare, or a text to be read once for each class of all.
        """
        method = METHODS[name]
        require_prompt(warp, inner)
        if self.multi_step_loss and not method.multi_step_loss:
            having = [other for other, found in METHODS.items() if found.multi_step_loss]
            raise InputError(f"method {name!r} has no multi-step loss; it is for {listing(having)}.")
        if not self.lr and method.needs_lr:
            raise InputError(f"training.lr is 0, and method {name!r} learns nothing then; raise it.")
        if self.regularizer != "none" and not warp.prompt_is_read:
            raise InputError(
                f"regularizer {self.regularizer} shifts texts under the prompt, and nothing that read-out "
                f"{warp.config.read_out!r} reads depends on one; add mean or mask, or leave the regularizer out."
            )
        if self.regularizer == "scal" and warp.rows_inside:
            raise InputError(
                "regularizer scal compares what is read of texts, which read-out 'original' does not give; take sift."
            )
        if method.class_rows and warp.rows_inside:
            raise InputError(
                f"method {name!r} classifies all training classes at once, and read-out 'original' would read a text "
                "once for each; take another method or read-out."
            )
