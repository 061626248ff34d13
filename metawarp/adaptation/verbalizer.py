"""Verbalizer rows for classes that were never seen: from their names, their support texts, or both.

References:
    Jiang, Zhang, Kwok (2023), "Effective Structured Prompting by Meta-Learning and Representative Verbalizer",
    ICML, eq. 6: a class's row is the mean of its support features (RepVerb).
"""

from __future__ import annotations

import torch
from torch import Tensor

from episodes import InputError
from metawarp.adaptation.randomness import generator_of
from metawarp.adaptation.regression import fitted_rows
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.model.warp import State, Warp


def initial_rows(warp: Warp, state: State, tasks: TaskBatch, names: Tensor | None, support: Tensor | None) -> Tensor:
    """Verbalizer rows (T, C, d) before any adaptation.

    Args:
        warp: the model; its config says which recipe.
        state: holds "name_weight", m (a scalar), for the recipe "mix" (see `name_weight`); "log_strength" and
            "log_name_count" (scalars) for "regression" (see `fitted_rows`).
        tasks: T tasks of at most C classes.
        names: (T·C', d) features of the class names; None where the recipe needs none, or classes have none.
        support: (B, d) features of the support texts; None where there are none.

    Raises:
        InputError: recipe "support" and a class without support texts.
    """
    recipe = warp.config.rows
    if warp.rows_inside and names is None:
        raise InputError("read-out 'original' reads the words of the classes; give class names.")
    if recipe in ("names", "mix") and names is None:
        recipe = "support"
    if recipe == "random":
        return _random_rows(warp, state, tasks)
    means = None
    if recipe in ("support", "mix") and support is not None:
        means = warp.unit(class_means(support, tasks.support, tasks.shots))
    if recipe == "support":
        if means is None or bool(((tasks.shots == 0) & tasks.class_mask).any()):
            raise InputError("rows from support texts need one text a class at least; use names or mix at zero shots.")
        return means
    if recipe == "regression":
        return _regression(state, tasks, None if names is None else names * warp.last_layer, support)
    assert names is not None
    by_name = names.new_zeros(*tasks.shots.shape, names.shape[-1])
    by_name = by_name.index_put((tasks.names.task, tasks.names.label), warp.unit(names))
    if recipe == "names" or means is None:
        return by_name
    weight = name_weight(tasks.shots.to(names.dtype), state["name_weight"])
    return warp.unit(weight[..., None] * by_name + (1 - weight[..., None]) * means)


def name_weight(shots: Tensor, m: Tensor) -> Tensor:
    """Weight w = 1 / (1 + K·e^m) of a class's name beside the mean of its K texts, of the shape of `shots`.

    A class without texts is its name, one with many is their mean.
    """
    return 1 / (1 + shots * m.exp())


def class_means(features: Tensor, texts: LabelledTexts, shots: Tensor) -> Tensor:
    """Mean feature of each class, (T, C, d); zero where a class has no text.

    Args:
        features: (B, d).
        texts: B labelled texts.
        shots: (T, C) how many of them each class has.
    """
    sums = features.new_zeros(*shots.shape, features.shape[-1])
    sums = sums.index_put((texts.task, texts.label), features, accumulate=True)
    return sums / shots.clamp(min=1)[..., None]


def _regression(state: State, tasks: TaskBatch, names: Tensor | None, support: Tensor | None) -> Tensor:
    found = []
    if support is not None:
        # Balanced: how many texts somebody had of a class says nothing of how often it will come.
        shots, texts = tasks.shots.to(support.dtype), tasks.support
        mean = shots.sum(1) / tasks.n_way
        found.append((support, texts, mean[texts.task] / shots[texts.task, texts.label]))
    if names is not None:
        found.append((names, tasks.names, state["log_name_count"].exp().expand(len(tasks.names))))
    if not found:
        raise InputError("a regression needs class names or support texts; give one of them.")
    return fitted_rows(
        torch.cat([features for features, _, _ in found]),
        torch.cat([texts.task for _, texts, _ in found]),
        torch.cat([texts.label for _, texts, _ in found]),
        torch.cat([count for *_, count in found]),
        tasks.class_mask,
        state["log_strength"].exp(),
    )


def _random_rows(warp: Warp, state: State, tasks: TaskBatch) -> Tensor:
    # The same start for class c of any task, on any machine: what it is must not depend on the batch.
    generator = generator_of(0, "rows")
    rows = torch.randn(tasks.shots.shape[1], warp.row_size, generator=generator)
    rows = warp.unit(rows).to(state["prompt"])
    return rows.expand(len(tasks), *rows.shape)
