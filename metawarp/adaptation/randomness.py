"""Random numbers: a stream of its own for each purpose, so that no two starts are alike by accident."""

from __future__ import annotations

import numpy as np
import torch


def generator_of(seed: int, purpose: str) -> torch.Generator:
    """A generator that is a function of (seed, purpose); the global state is never touched.

    Args:
        seed: of the run, at least 0.
        purpose: what is drawn, such as "class rows".
    """
    entropy = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0] >> 1))  # torch takes seeds of 63 bits
