"""How much memory an unrolled inner loop would hold, and how much there is."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import torch

from episodes import InputError
from metawarp.adaptation.adapt import reads_again
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.model.warp import Warp

logger = logging.getLogger(__name__)


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


def unrolled_bytes(warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> int:
    """Bytes that the graph of all inner steps holds, estimated; 0 where the steps do not go through the backbone.

    Args:
        warp: the model.
        tasks: T tasks that are adapted at the same time.
        inner: steps S and groups; the memory is linear in S.
    """
    if not (reads_again(warp, inner) and tasks.support.batch is not None):
        return 0
    config = warp.backbone.model.config
    lengths = warp.encoder.windows(tasks.support.batch)[0].lengths.double()
    vectors = HIDDEN_VECTORS * float(lengths.sum()) * config.hidden_size  # pyright: ignore
    maps = ATTENTION_MAPS * float((lengths**2).sum()) * config.num_attention_heads  # pyright: ignore
    width = torch.finfo(warp.backbone.dtype).bits // 8
    layers = warp.backbone.n_layers - warp.config.prompt_layer
    times = tasks.shots.shape[1] if warp.rows_inside else 1
    return int(inner.steps * layers * times * (vectors + maps) * width)  # pyright: ignore


LARGE = 2**27
"""Bytes of tasks' own numbers that are worth a word: what a quarter of a small model's weights come to."""

OUTER_COPIES = 8
"""Tensors of the init's size that an outer loop holds: start, offset, mean, two moments, best, state, gradient."""


def require_room_for_copies(warp: Warp, n_tasks: int, inner: InnerLoop) -> None:
    """Say how much memory the tasks' own numbers take, where it is much, before anything is allocated.

    Args:
        warp: the model; its form has the numbers.
        n_tasks: T tasks that are adapted at the same time.
        inner: S + 1 states of each, and a gradient, are held where it moves the prompt.

    Raises:
        MemoryLimitError: they would not fit.
    """
    copies = OUTER_COPIES + (n_tasks * (inner.steps + 2) if inner.moves_prompt else 0)
    width = torch.finfo(torch.promote_types(torch.float32, warp.backbone.dtype)).bits // 8
    needed, free = copies * warp.form.size * width, free_bytes(warp.backbone.device)
    if needed < LARGE:
        return
    sizes = (
        f"{copies} copies of the {warp.form.size:,} numbers of form {warp.config.form!r} take {needed / 1e9:.1f} GB of "
        f"{free / 1e9:.1f} GB free"
    )
    if needed > free:
        raise MemoryLimitError(f"tasks do not fit: {sizes}; lower --training.meta_batch or --inner-steps.")
    logger.info("memory: %s", sizes)


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device; within a container, what its limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # control groups version 2: a container's own limit, "max" where it has none
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)
