"""A meta-batch that several processes share: its tasks, and the one meta-gradient of all."""

from __future__ import annotations

import torch
from accelerate.utils import reduce

from episodes import InputError
from metawarp.meta_learning.outer_loss import MetaGradient
from metawarp.processes import count, share


def require_tasks(number: int) -> None:
    """Refuse more processes than there are tasks in a meta-batch.

    Raises:
        InputError: some would have nothing to do.
    """
    if count() > number:
        raise InputError(
            f"{count()} processes cannot share the {number} tasks of a meta-batch; launch {number} at most, or raise "
            "--training.meta_batch."
        )


def averaged(own: MetaGradient, n_queries: int, number: int) -> MetaGradient:
    """The meta-gradient of a whole meta-batch, in one reduction of all its numbers.

    Args:
        own: of this process's share of the tasks.
        n_queries: queries in it.
        number: tasks T of the meta-batch.
    """
    if count() == 1:
        return own
    weight = len(own.losses) / number
    losses = own.losses.new_zeros(number)
    losses[list(share(number))] = own.losses
    sizes = [tensor.numel() for tensor in own.gradients.values()]
    counts = losses.new_tensor([own.accuracy * n_queries, n_queries])
    flat = torch.cat([*(weight * tensor.flatten() for tensor in own.gradients.values()), losses, counts])
    *parts, losses, counts = reduce(flat, reduction="sum").split([*sizes, number, 2])  # pyright: ignore
    gradients = {name: part.view_as(own.gradients[name]) for name, part in zip(own.gradients, parts, strict=True)}
    return MetaGradient(gradients, losses, float(counts[0] / counts[1]))
