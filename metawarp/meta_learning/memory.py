"""How much memory an unrolled inner loop would hold, and how much there is."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from episodes import InputError
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch
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


def unrolled_bytes(warp: Warp, tasks: TaskBatch, inner: InnerLoop) -> int:
    """Bytes that the graph of all inner steps holds, estimated; 0 where the steps do not go through the backbone.

    Args:
        warp: the model.
        tasks: T tasks that are adapted at the same time.
        inner: steps S and groups; the memory is linear in S.
    """
    if not (inner.moves_prompt and tasks.support.batch is not None):
        return 0
    config = warp.backbone.model.config
    lengths = warp.encoder.windows(tasks.support.batch)[0].lengths.double()
    vectors = HIDDEN_VECTORS * float(lengths.sum()) * config.hidden_size  # pyright: ignore
    maps = ATTENTION_MAPS * float((lengths**2).sum()) * config.num_attention_heads  # pyright: ignore
    width = torch.finfo(warp.backbone.dtype).bits // 8
    layers = warp.backbone.n_layers - warp.config.prompt_layer
    return int(inner.steps * layers * (vectors + maps) * width)  # pyright: ignore


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
