"""How much memory adapting tasks takes, and how much there is: said, or refused, before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import torch

from episodes import InputError
from metawarp.adaptation.inner_loop import InnerLoop, reads_again
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.model.warp import Warp


class MemoryLimitError(InputError):
    """What was asked for does not fit into memory."""


HIDDEN_VECTORS = 33
"""Vectors of the hidden size that the graph of one step keeps for each token and layer, to be differentiated twice."""

ATTENTION_MAPS = 4
"""Attention maps (n × n, each head) that it keeps for each text and layer.

Both were fitted to the peak memory of MiniLM at 1 to 15 steps: 0.30 GB a step for 867 tokens of the bundled corpus, of
which the tensors alone are 0.21 GB and the rest is the allocator's. For texts of one length they are a third too much.
`scripts/benchmark_engines.py` measures it again.
"""

FIRST_ORDER_VECTORS = 19
"""The same where it is differentiated once, with respect to weights too (13 without): MiniLM, 10,300 tokens, 1.8 GB."""

LARGE = 2**27
"""Bytes of tasks' own numbers that are worth a word: what a quarter of a small model's weights come to."""


def unrolled_bytes(warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> int:
    """Bytes that the graph of all inner steps holds, estimated; 0 where the steps do not go through the backbone.

    Args:
        warp: the model.
        tasks: T tasks that are adapted at the same time.
        inner: steps S and groups; the memory is linear in S.
    """
    if not (reads_again(warp, inner) and tasks.support.batch is not None):
        return 0
    lengths = _lengths(warp, tasks.support)
    config = warp.backbone.model.config
    vectors = HIDDEN_VECTORS * float(lengths.sum()) * config.hidden_size  # pyright: ignore
    maps = ATTENTION_MAPS * float((lengths**2).sum()) * config.num_attention_heads  # pyright: ignore
    times = tasks.shots.shape[1] if warp.rows_inside else 1
    return int(inner.steps * _layers(warp) * times * (vectors + maps) * warp.backbone.dtype.itemsize)  # pyright: ignore


def require_room(
    warp: Warp, tasks: TaskBatch, inner: InnerLoop, *, beside: int = 0, second_order: bool = False
) -> str | None:
    """What the tasks' own numbers, and the graph of one pass, take; None where that is not worth a word.

    Args:
        warp: the model; its form has the numbers.
        tasks: T tasks that are adapted at the same time.
        inner: its steps.
        beside: tensors of the form's size that are held beside theirs, such as an outer loop's.
        second_order: whether the inner gradients are differentiated too; the graph of their steps is not counted here.

    Raises:
        MemoryLimitError: it would not fit.
    """
    copies = beside + (len(tasks) * _copies_of_a_task(inner, second_order) if inner.moves_prompt else 2)
    if copies * _bytes_of_a_copy(warp) < LARGE:
        return None
    tokens = float(sum(_lengths(warp, texts).sum() for texts in (tasks.support, tasks.query)))
    width = warp.backbone.dtype.itemsize
    graph = FIRST_ORDER_VECTORS * tokens * warp.backbone.hidden_size * _layers(warp) * width
    needed, free = copies * _bytes_of_a_copy(warp) + graph, free_bytes(warp.backbone.device)
    told = (
        f"about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free for {len(tasks)} tasks at a time: {copies} copies of "
        f"the {warp.form.size:,} numbers of form {warp.config.form!r}, and the graph of a pass"
    )
    if needed > free:
        raise MemoryLimitError(
            f"tasks do not fit: it takes {told}; take fewer tasks (--training.meta_batch) or inner steps, or a smaller "
            "form, such as lora:2."
        )
    return told


def tasks_at_once(warp: Warp, inner: InnerLoop, most: int) -> int:
    """How many tasks, 1 to `most`, can be adapted at the same time in half of the free memory."""
    a_task = _copies_of_a_task(inner) * _bytes_of_a_copy(warp)
    if not inner.moves_prompt or most * a_task < LARGE:
        return most
    return max(1, min(most, free_bytes(warp.backbone.device) // 2 // a_task))


def _copies_of_a_task(inner: InnerLoop, second_order: bool = False) -> int:
    # S + 1 states, a gradient for each step's learned rate, and what a step is made of; or gradients of gradients too.
    return 4 * inner.steps + 8 if second_order else 2 * inner.steps + 5


def _bytes_of_a_copy(warp: Warp) -> int:
    return warp.form.size * torch.promote_types(torch.float32, warp.backbone.dtype).itemsize


def _lengths(warp: Warp, texts: LabelledTexts) -> torch.Tensor:
    return warp.encoder.windows(texts.batch)[0].lengths.double() if texts.batch is not None else torch.zeros(1)


def _layers(warp: Warp) -> int:
    return warp.backbone.n_layers - warp.config.prompt_layer


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device; within a container, what its limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # here, since a saved task predicts without it

    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # control groups version 2: a container's own limit, "max" where it has none
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)
