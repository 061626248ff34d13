"""Meta-gradients, by name in one table: how the init should move, given T tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from episodes import InputError
from episodes.errors import listing
from metawarp.adaptation.adapt import read, shared, trajectory
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.implicit import imaml
from metawarp.meta_learning.outer_loss import MetaGradient, StepWeights, accuracy, gradients_of, query_losses
from metawarp.meta_learning.second_order import EXACT, unroll
from metawarp.model.warp import State, Warp

Gradient = Callable[..., MetaGradient]
"""From (warp, state, tasks, inner, step_weights); of second order, also `mode`."""


def maml(
    warp: Warp,
    state: State,
    tasks: TaskBatch,
    inner: InnerLoop,
    step_weights: StepWeights = None,
    *,
    mode: str = "recompute",
) -> MetaGradient:
    """Exact gradient of the query loss after adaptation, second order included.

    Args:
        warp: the model.
        state: the init's tensors; each gets a gradient, the inner learning rates (Meta-SGD, LSLR) included.
        tasks: T tasks; their mean loss counts.
        inner: the inner loop.
        step_weights: MAML++ multi-step loss (see `multi_step_weights`).
        mode: how, of `EXACT`: "unroll" or "recompute"; the result is the same.

    References:
        Finn et al. (2017), "Model-Agnostic Meta-Learning", ICML, algorithm 1, line 8.
        Antoniou et al. (2019), "How to train your MAML", ICLR, eq. 4 (multi-step loss).
    """
    return EXACT[mode](warp, state, tasks, inner, step_weights)


def fomaml(
    warp: Warp, state: State, tasks: TaskBatch, inner: InnerLoop, step_weights: StepWeights = None
) -> MetaGradient:
    """As `maml`, with the inner gradients taken as constants: no second derivatives.

    References:
        Finn et al. (2017), "Model-Agnostic Meta-Learning", ICML, sec. 5.2 (first-order approximation).
    """
    return unroll(warp, state, tasks, inner, step_weights, second_order=False)


def reptile(
    warp: Warp, state: State, tasks: TaskBatch, inner: InnerLoop, step_weights: StepWeights = None
) -> MetaGradient:
    """θ - θ_S for the prompt, averaged over tasks: the way from the adapted prompts back to the init.

    The steps take query and support texts in turn, since Reptile trains on a task's texts without
    splitting them. Nothing but the prompt is reached: scale, mixes and inner learning rates keep their start.

    References:
        Nichol, Achiam, Schulman (2018), "On First-Order Meta-Learning Algorithms", algorithm 2 and eq. 3.
    """
    states = trajectory(warp, state, tasks, inner, batches=(tasks.query, tasks.support))
    with torch.no_grad():
        losses, right = query_losses(warp, states[-1], tasks)
        gradients = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        gradients["prompt"] = (states[0]["prompt"] - states[-1]["prompt"]).mean(0)
    return MetaGradient(gradients, losses, right)


def multitask(
    warp: Warp, state: State, tasks: TaskBatch, inner: InnerLoop, step_weights: StepWeights = None
) -> MetaGradient:
    """Gradient of plain classification over all meta-training classes: no episodes, no inner loop.

    The tasks lend their texts; the classes are told apart by "class_rows" (classes, d), one row for each
    meta-training class, learned along and thrown away. The control that every meta-learner has to beat.

    References:
        Vu, Lester, Constant, Al-Rfou, Cer (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt
        Transfer", ACL, sec. 2.2 (source prompt tuning on a mixture of tasks).
    """
    current = shared(state)
    parts = [texts for texts in (tasks.support, tasks.query) if len(texts)]
    features = torch.cat([read(warp, current, texts) for texts in parts])
    labels = torch.cat([tasks.corpus_class[texts.task, texts.label] for texts in parts])
    owners = torch.cat([texts.task for texts in parts])
    logits = warp.logits(features, state["class_rows"], current["scale"])
    each = cross_entropy(logits, labels, reduction="none")
    sums = each.new_zeros(len(tasks)).index_add(0, owners, each)
    losses = sums / torch.bincount(owners, minlength=len(tasks))
    return MetaGradient(gradients_of(losses.mean(), state), losses.detach(), accuracy(logits, labels))


@dataclass(frozen=True)
class Method:
    """A way to learn an init.

    Attributes:
        gradient: the meta-gradient.
        inner: the inner loop that it trains, and tasks are adapted with.
        class_rows: whether it learns one verbalizer row for each meta-training class beside the init.
        order: 2 where the outer gradient goes through the inner loop, 1 where it takes the inner gradients for
            constants, 0 where it does not go there at all.
        least_steps: inner steps without which it is not what its name says.
        needs_lr: whether nothing is learned where the outer learning rate of the prompt is 0.
    """

    gradient: Gradient
    inner: InnerLoop
    class_rows: bool = False
    order: int = 0
    least_steps: int = 0
    needs_lr: bool = False

    @property
    def multi_step_loss(self) -> bool:
        """Whether MAML++'s loss over all inner steps means anything to it."""
        return self.order > 0 and bool(self.inner.groups)


METHODS: dict[str, Method] = {
    "maml": Method(maml, InnerLoop(3, GROUPS), order=2, least_steps=1),
    "fomaml": Method(fomaml, InnerLoop(3, GROUPS), order=1, least_steps=1),
    "reptile": Method(reptile, InnerLoop(4, GROUPS), least_steps=1, needs_lr=True),
    # Raghu, Raghu, Bengio, Vinyals (2020), "Rapid Learning or Feature Reuse? Towards Understanding the
    # Effectiveness of MAML", ICLR, sec. 4: only the head moves in the inner loop.
    "anil": Method(maml, InnerLoop(5, ("rows",)), order=2, least_steps=1),
    # Snell, Swersky, Zemel (2017), "Prototypical Networks for Few-shot Learning", NeurIPS, eq. 1 and 2: no inner
    # loop at all; the rows are a function of the support set, and the outer loop moves the prompt. With rows from a
    # regression it is the scheme of Lee et al. (2019), "Meta-Learning with Differentiable Convex Optimization", CVPR.
    "prototypical": Method(maml, InnerLoop(0, ()), order=2),
    "imaml": Method(imaml, InnerLoop(5, GROUPS, proximal=1.0), least_steps=1),
    "multitask": Method(multitask, InnerLoop(3, GROUPS), class_rows=True, needs_lr=True),
}

DEFAULT = "prototypical"
"""The method where none is named."""


def inner_loop(name: str, steps: int | None = None) -> InnerLoop:
    """A method's inner loop, with another number of steps where one is given.

    Args:
        name: of the method.
        steps: inner steps; None: the method's own.

    Raises:
        InputError: an unknown method; steps that it has no use for, or fewer than it needs.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is not known; known: {listing(METHODS)}.")
    method = METHODS[name]
    if steps is None:
        return method.inner
    if steps > 0 and not method.inner.groups:
        raise InputError(f"method {name!r} has no inner loop; leave out the inner steps, or choose another method.")
    if 0 <= steps < method.least_steps:
        raise InputError(
            f"method {name!r} learns from its inner steps; give it {method.least_steps} at least, or choose "
            "prototypical, which needs none."
        )
    return method.inner.with_steps(steps)
