"""The inner loop: from an initialization and support texts to one adapted state for each task.

References:
    Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning", ICML, eq. 1: θ' = θ - α·∇L_support(θ).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metawarp.adaptation.inner_loop import InnerLoop, inner_lr, reads_again, require_prompt
from metawarp.adaptation.memory import require_room
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.adaptation.temperature import Temperature
from metawarp.adaptation.verbalizer import initial_rows
from metawarp.backbones.backbone import twice_differentiable
from metawarp.model.warp import State, Warp


def trajectory(
    warp: Warp,
    state: State,
    tasks: TaskBatch,
    inner: InnerLoop,
    *,
    second_order: bool = False,
    batches: Sequence[LabelledTexts] = (),
) -> list[State]:
    """States of T tasks before the inner loop and after each of its steps.

    Args:
        warp: the model.
        state: the init's tensors.
        tasks: T tasks; one without support texts stays at its start.
        inner: steps and groups.
        second_order: keep the graph of the inner gradients, so that the outer gradient is exact (MAML);
            otherwise they count as constants (first-order MAML, Finn et al., sec. 5.2).
        batches: texts that the steps take in turn; default the support texts alone.

    Returns:
        S + 1 states with "prompt" (T, …), or (1, …) where no step moves it, "rows" (T, C, d), "scale" and
        "read_out" (P,). Gradients run from each of them to the tensors of `state`.
    """
    require_prompt(warp, inner)
    batches = [batch for batch in batches or (tasks.support,) if len(batch)]
    with twice_differentiable(second_order and reads_again(warp, inner)):
        current, support = start(warp, state, tasks, inner.moving)
        states = [current]
        if not batches:
            return states * (inner.steps + 1)
        # The features of the support texts serve the first step too, and every one where the prompt stays as it is.
        kept = support if len(batches) == 1 and batches[0] is tasks.support else None
        for number in range(inner.steps):
            texts = batches[number % len(batches)]
            features = kept if number == 0 or not reads_again(warp, inner) else None
            moved = step(
                warp, state, current, texts, tasks, inner, number, features=features, second_order=second_order
            )
            for group in inner.groups if inner.proximal else ():
                away = current[group] - states[0][group]
                moved[group] = moved[group] - inner_lr(state, group, number) * inner.proximal * away
            current = moved
            states.append(current)
    return states


def adapt(
    warp: Warp, state: State, tasks: TaskBatch, inner: InnerLoop, temperature: Temperature | None = None
) -> State:
    """The state that T tasks are predicted with: the end of `trajectory`, "scale" (T,) by each one's temperature.

    Raises:
        MemoryLimitError: a form that has many numbers for each task, for which there is no room.
    """
    require_room(warp, tasks, inner)
    with torch.set_grad_enabled(inner.steps > 0):
        adapted = trajectory(warp, state, tasks, inner)[-1]
    found = (temperature or Temperature()).of(tasks.shots.sum(1) / tasks.n_way, tasks.n_way.float())
    return {**adapted, "scale": adapted["scale"] / found.to(adapted["scale"])}


def step(
    warp: Warp,
    state: State,
    current: State,
    texts: LabelledTexts,
    tasks: TaskBatch,
    inner: InnerLoop,
    number: int,
    *,
    features: Tensor | None = None,
    second_order: bool = False,
) -> State:
    """The state of T tasks after one gradient step: θ - α·∇L(θ) for each group.

    Args:
        warp: the model.
        state: holds the inner learning rates α.
        current: the state before the step.
        texts: what the loss is taken on.
        tasks: T tasks.
        inner: its groups move.
        number: of the step, from 0.
        features: of the texts under the current prompt, where they are known.
        second_order: keep the graph of the gradients.
    """
    features = read(warp, current, texts) if features is None else features
    gradients = _gradients(warp, current, features, texts, tasks, inner, second_order)
    moved = {group: current[group] - inner_lr(state, group, number) * gradient for group, gradient in gradients.items()}
    return {**current, **moved}


def _gradients(
    warp: Warp,
    current: State,
    features: Tensor,
    texts: LabelledTexts,
    tasks: TaskBatch,
    inner: InnerLoop,
    second_order: bool,
) -> State:
    """Partial derivatives of the summed task losses with respect to each group."""
    # The first rows are themselves made of features of the same prompt. The prompt's partial derivative holds
    # the rows fixed, so it is taken in two stages: loss → features, features → prompt.
    inside = [group for group in inner.groups if group == "prompt" or warp.rows_inside]
    beside = [group for group in inner.groups if group not in inside]
    read_out = features.clone()
    loss = task_losses(warp, current, read_out, texts, tasks).sum()
    variables = [current[group] for group in beside] + ([read_out] if inside else [])
    found = list(torch.autograd.grad(loss, variables, create_graph=second_order))
    if inside:
        variables = [current[group] for group in inside]
        found += torch.autograd.grad(features, variables, found.pop(), create_graph=second_order, retain_graph=True)
    gradients = dict(zip([*beside, *inside], found, strict=True))
    return gradients if second_order else {group: gradient.detach() for group, gradient in gradients.items()}


def inner_gradients(warp: Warp, current: State, texts: LabelledTexts, tasks: TaskBatch, inner: InnerLoop) -> State:
    """Gradient of the summed task losses with respect to each group, to be differentiated again."""
    return _gradients(warp, current, read(warp, current, texts), texts, tasks, inner, second_order=True)


def shared(state: State) -> State:
    """What all tasks start with: "prompt" (1, …), "scale", and "read_out" (P,) where that has P > 1 parts."""
    current = {"prompt": state["prompt"][None], "scale": state["log_scale"].exp()}
    if "read_out" in state:
        current["read_out"] = state["read_out"].softmax(0)
    return current


def start(warp: Warp, state: State, tasks: TaskBatch, groups: Sequence[str] = ()) -> tuple[State, Tensor | None]:
    """The state of T tasks before any step, and the features of their support texts, where rows can be made of them.

    Args:
        warp: the model.
        state: the init's tensors.
        tasks: T tasks.
        groups: what is going to be differentiated by the inner loop, whether or not the init is being learned.
    """
    current = shared(state)
    if "prompt" in groups:
        prompt = current["prompt"]
        current["prompt"] = _differentiable(prompt.expand(len(tasks), *prompt.shape[1:]).clone())
    support = read(warp, current, tasks.support) if len(tasks.support) and not warp.rows_inside else None
    named = warp.config.rows in ("names", "mix", "regression") and len(tasks.names)
    names = _name_features(warp, current, tasks) if named else None
    rows = initial_rows(warp, state, tasks, names, support)
    # Rows of classes that a task does not have count for nothing, but the second derivative of a norm at zero is NaN.
    current["rows"] = rows.where(tasks.class_mask[..., None], torch.ones_like(rows))
    if "rows" in groups:
        current["rows"] = _differentiable(current["rows"])
    return current, support


def _differentiable(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.detach().requires_grad_()


def read(warp: Warp, current: State, texts: LabelledTexts) -> Tensor:
    """Features (B, d) of texts under the current prompts of their tasks."""
    assert texts.batch is not None
    return warp.features(current["prompt"], current.get("read_out"), texts.batch, texts.task, current.get("rows"))


def task_logits(warp: Warp, current: State, features: Tensor, texts: LabelledTexts, tasks: TaskBatch) -> Tensor:
    """Logits (B, C) of texts under their own task's rows; -inf at classes that a task does not have."""
    scale = current["scale"].expand(len(tasks))[texts.task, None]
    logits = warp.logits(features, current["rows"][texts.task], scale)
    return logits.masked_fill(~tasks.class_mask[texts.task], float("-inf"))


def task_losses(warp: Warp, current: State, features: Tensor, texts: LabelledTexts, tasks: TaskBatch) -> Tensor:
    """Mean cross-entropy of each task, (T,); 0 for a task without texts."""
    logits = task_logits(warp, current, features, texts, tasks)
    losses = cross_entropy(logits, texts.label, reduction="none")
    counts = torch.bincount(texts.task, minlength=len(tasks)).clamp(min=1)
    return losses.new_zeros(len(tasks)).index_add(0, texts.task, losses) / counts


def _name_features(warp: Warp, current: State, tasks: TaskBatch) -> Tensor:
    if warp.config.name_source == "template":
        return read(warp, current, tasks.names)
    batch = tasks.names.batch
    assert batch is not None
    words = batch.text_mask & ~torch.isin(batch.input_ids, torch.tensor(warp.backbone.tokenizer.all_special_ids))
    words = words.to(current["prompt"])
    vectors = warp.backbone.embedded(batch.input_ids).to(words)
    return (vectors * words[..., None]).sum(1) / words.sum(1, keepdim=True).clamp(min=1)
