"""The meta-gradient of a batch whose tasks several processes share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from episodes import InputError
from metawarp.processes import Processes


def require_tasks(processes: Processes, meta_batch_size: int) -> None:
    """Check that every process has a task; InputError if there are more processes than tasks."""
    if processes.count > meta_batch_size:
        problem = f"{processes.count} processes cannot share meta_batch_size={meta_batch_size} tasks"
        raise InputError(f"{problem}; start at most {meta_batch_size} processes, or raise meta_batch_size.")


def averaged(
    gradients: Mapping[str, Tensor], losses: Tensor, accuracy: float, n_queries: int, size: int, processes: Processes
) -> tuple[dict[str, Tensor], Tensor, float]:
    """Gradients, losses (T,) and accuracy of the whole batch of T tasks, in one reduction of all numbers.

    The arguments are those of this process's share of the tasks, which has `n_queries` queries; `size` is T.
    """
    if processes.count == 1:
        return dict(gradients), losses, accuracy
    weight, all_losses = len(losses) / size, losses.new_zeros(size)
    all_losses[list(processes.share(size))] = losses
    sizes = [tensor.numel() for tensor in gradients.values()]
    counts = losses.new_tensor([accuracy * n_queries, n_queries])
    flat = torch.cat([*(weight * tensor.flatten() for tensor in gradients.values()), all_losses, counts])
    *parts, all_losses, counts = processes.summed(flat).split([*sizes, size, 2])
    total = {name: part.view_as(gradients[name]) for name, part in zip(gradients, parts, strict=True)}
    return total, all_losses, float(counts[0] / counts[1])
