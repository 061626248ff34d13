"""Memory that the adaptation of tasks takes, and the memory that is free: compared before anything is allocated."""

from pathlib import Path

import torch

from metawarp.adapters.adapter import n_values
from metawarp.config import InnerLoop
from metawarp.errors import MemoryLimitError
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp

HIDDEN_VECTORS = 33
"""Vectors of the hidden size that the twice differentiable graph of one step keeps for each token and layer."""

ATTENTION_MAPS = 4
"""Attention maps (n × n, for each head) that it keeps for each text and layer.

Both were fitted to the peak memory of MiniLM at 1 to 15 steps: 0.30 GB per step for 867 tokens of the bundled corpus.
For texts of one length they are a third too large. The benchmark of the engines measures it again.
"""

FIRST_ORDER_VECTORS = 19
"""Number of such vectors in a graph that is differentiated once, with respect to weights too (13 without); measured on
MiniLM, with 10,300 tokens, as 1.8 GB."""

LARGE = 2**27
"""Bytes of adapters below which no estimate is made: about a quarter of the weights of a small model."""


def unrolled_bytes(warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> int:
    """Estimated bytes of the graph of all inner steps of T tasks; 0 if the steps do not pass through the backbone."""
    if not (warp.reads_again(inner) and tasks.support.batch is not None):
        return 0
    backbone, lengths = warp.backbone, _lengths(warp, tasks.support)
    vectors = HIDDEN_VECTORS * float(lengths.sum()) * backbone.hidden_size
    maps = ATTENTION_MAPS * float((lengths**2).sum()) * backbone.n_heads
    copies = tasks.shots.shape[1] if "class_embeddings" in warp.read_out.depends_on else 1
    layers = backbone.n_layers - warp.config.adapter_layer
    return int(inner.inner_steps * layers * copies * (vectors + maps) * backbone.dtype.itemsize)


def require_memory(
    warp: Warp, tasks: TaskBatch, inner: InnerLoop, *, n_other_copies: int = 0, second_order: bool = False
) -> str | None:
    """A sentence about the memory that the adapters of T tasks and the graph of one pass take; None if it is little.

    `n_other_copies` is the number of other tensors of the adapter's size, such as an optimizer's. The graph of all
    steps of a second-order method is not counted here. MemoryLimitError if there is not enough memory.
    """
    of_tasks = len(tasks) * _copies_per_task(inner, second_order) if "adapter" in inner.moving else 2
    copies = n_other_copies + of_tasks
    if copies * _bytes_per_copy(warp) < LARGE:
        return None
    tokens = float(sum(_lengths(warp, texts).sum() for texts in (tasks.support, tasks.query)))
    graph = FIRST_ORDER_VECTORS * tokens * warp.bytes_per_token
    needed, free = copies * _bytes_per_copy(warp) + graph, free_bytes(warp.backbone.device)
    sizes = f"{copies} copies of the {n_values(warp.adapter):,} values of adapter={warp.config.adapter!r}"
    total = f"{len(tasks)} tasks at a time need about {needed / 1e9:.1f} GB, with {free / 1e9:.1f} GB free"
    estimate = f"{total}: {sizes}, and the graph of one pass"
    if needed > free:
        advice = "Lower meta_batch_size or inner_steps, or use a smaller adapter, such as adapter='lora'"
        raise MemoryLimitError(f"The tasks do not fit into memory: {estimate}. {advice}.")
    return estimate


def tasks_at_once(warp: Warp, inner: InnerLoop, largest: int) -> int:
    """Number of tasks, from 1 to `largest`, that can be adapted at the same time in half of the free memory."""
    bytes_per_task = _copies_per_task(inner) * _bytes_per_copy(warp)
    if "adapter" not in inner.moving or largest * bytes_per_task < LARGE:
        return largest
    return max(1, min(largest, free_bytes(warp.backbone.device) // 2 // bytes_per_task))


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device; in a container, what its limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # here, because a saved task predicts without it

    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # control groups version 2: the container's limit, "max" if there is none
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _copies_per_task(inner: InnerLoop, second_order: bool = False) -> int:
    # S + 1 states, a gradient for each step's learning rate, and the tensors of a step; gradients of gradients too.
    return 4 * inner.inner_steps + 8 if second_order else 2 * inner.inner_steps + 5


def _bytes_per_copy(warp: Warp) -> int:
    return n_values(warp.adapter) * warp.backbone.parameter_dtype.itemsize


def _lengths(warp: Warp, texts: LabelledTexts) -> torch.Tensor:
    return warp.encoder.windows(texts.batch)[0].lengths.double() if texts.batch is not None else torch.zeros(1)
