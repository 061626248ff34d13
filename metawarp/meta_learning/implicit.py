"""Implicit meta-gradients: what the end of the inner loop says of its start, whatever way led there.

At a minimum θ* of L_support(θ) + λ/2·‖θ - θ_0‖² the gradient with respect to θ_0 is (I + H/λ)⁻¹·∇L_query(θ*), H the
Hessian of the support loss. The system is solved by conjugate gradients on Hessian-vector products, so that neither
compute nor memory of the meta-gradient grows with the number of inner steps.

References:
    Rajeswaran, Finn, Kakade, Levine (2019), "Meta-Learning with Implicit Gradients", NeurIPS, eq. 3, 6 and algorithm 2.
"""

from __future__ import annotations

import torch

from episodes import InputError
from metawarp.adaptation.adapt import inner_gradients, start, trajectory
from metawarp.adaptation.conjugate_gradients import conjugate_gradients
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import twice_differentiable
from metawarp.meta_learning.outer_loss import (
    MetaGradient,
    StepWeights,
    gradients_of,
    pulled_back,
    query_losses,
    reached,
)
from metawarp.model.warp import State, Warp

SOLVER_STEPS = 5
"""Conjugate-gradient steps, as in the paper's experiments."""


def imaml(
    warp: Warp,
    state: State,
    tasks: TaskBatch,
    inner: InnerLoop,
    step_weights: StepWeights = None,
    *,
    solver_steps: int = SOLVER_STEPS,
) -> MetaGradient:
    """The implicit gradient of the query loss after adaptation.

    The inner learning rates get none: where the minimum lies does not depend on them.

    Args:
        warp: the model.
        state: the init's tensors; each gets a gradient.
        tasks: T tasks; their mean loss counts.
        inner: the inner loop; it needs a proximal term.
        step_weights: not used: the end alone counts.
        solver_steps: conjugate-gradient steps.

    Raises:
        InputError: there is no proximal term, or a Hessian-vector product is not finite.
    """
    if inner.steps and not inner.proximal:
        raise InputError("imaml needs a proximal term; give the inner loop one above 0.")
    frozen = {name: tensor.detach() for name, tensor in state.items()}
    end = {name: tensor.detach() for name, tensor in trajectory(warp, frozen, tasks, inner)[-1].items()}
    end = {name: tensor.requires_grad_() for name, tensor in end.items()}
    losses, right = query_losses(warp, end, tasks)
    slope = gradients_of(losses.mean(), end)
    if inner.steps and len(tasks.support):
        with twice_differentiable(True):
            gradients = inner_gradients(warp, end, tasks.support, tasks, inner)
            others = {name: tensor for name, tensor in end.items() if name not in inner.groups}

            def times_hessian(vectors: State) -> State:
                image = _pull(gradients, vectors, {group: end[group] for group in inner.groups})
                return {group: vectors[group] + image[group] / inner.proximal for group in vectors}

            solved = conjugate_gradients(times_hessian, {group: slope[group] for group in inner.groups}, solver_steps)
            through = _pull(gradients, solved, others)  # scale and read-out move the minimum too
        slope = {**solved, **{name: slope[name] - through[name] / inner.proximal for name in others}}
    outputs = start(warp, state, tasks, inner.moving)[0]
    return MetaGradient(pulled_back(*reached(outputs, slope), state), losses.detach(), right)


def _pull(gradients: State, vectors: State, inputs: State) -> State:
    wanted = [(gradients[group], vectors[group]) for group in vectors]
    found = torch.autograd.grad(
        [gradient for gradient, _ in wanted],
        list(inputs.values()),
        [vector for _, vector in wanted],
        retain_graph=True,
        allow_unused=True,
    )
    pulled = {
        name: torch.zeros_like(tensor) if slope is None else slope
        for (name, tensor), slope in zip(inputs.items(), found, strict=True)
    }
    if not all(bool(tensor.isfinite().all()) for tensor in pulled.values()):
        raise InputError("a Hessian-vector product is not finite; lower the inner learning rates, or use fomaml.")
    return pulled
