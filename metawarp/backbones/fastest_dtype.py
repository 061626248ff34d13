"""Which data type a model is faster in on this machine: measured once, and remembered in a cache folder."""

import copy
import hashlib
import json
import logging
import os
import platform
import statistics
import time
from contextlib import suppress
from pathlib import Path

import torch

from episodes.writing import write_text
from metawarp.backbones.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

CANDIDATES = ("float32", "bfloat16")
N_TEXTS, N_TOKENS, ROUNDS = 16, 32, 5
NEEDED_GAIN = 1.1
"""bfloat16 rounds, so it must be faster by this factor to be chosen."""


def fastest_dtype(checkpoint: Checkpoint) -> str:
    """The faster one of "float32" and "bfloat16" for a model that is loaded in float32.

    The choice is remembered for this model, machine, device, number of threads and release of torch in the folder that
    the environment variable METAWARP_CACHE names; default: ~/.cache/metawarp.
    """
    machine = platform.node(), str(checkpoint.model.device), torch.get_num_threads(), torch.__version__
    key = hashlib.sha256(repr((checkpoint.fingerprint, *machine)).encode()).hexdigest()[:16]
    file = Path(os.environ.get("METAWARP_CACHE") or Path.home() / ".cache" / "metawarp") / f"dtype-{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # not measured yet, or damaged: it is measured again
        if (known := json.loads(file.read_text(encoding="utf-8"))["dtype"]) in CANDIDATES:
            return known
    seconds = _seconds(checkpoint)
    chosen = "bfloat16" if seconds["float32"] > NEEDED_GAIN * seconds["bfloat16"] else "float32"
    logger.info("dtype='auto' is %s on this machine: %s", chosen, seconds)
    with suppress(OSError):  # a folder that cannot be written only means that it is measured again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"dtype": chosen, "seconds": seconds}))
    return chosen


@torch.no_grad()
def _seconds(checkpoint: Checkpoint) -> dict[str, float]:
    """Median seconds of a forward pass in each data type, taken by turns."""
    family, model = checkpoint.family, checkpoint.model
    mask = torch.ones(N_TEXTS, N_TOKENS, dtype=torch.bool, device=model.device)
    models = {"float32": model, "bfloat16": copy.deepcopy(model).bfloat16()}
    taken: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.perf_counter()
            hidden = family.embed(model, model.get_input_embeddings()(mask.long()), mask)
            for layer in family.layers(model, hidden, mask):
                hidden = layer(hidden)
            hidden[0, 0, 0].item()  # waits for a GPU
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
