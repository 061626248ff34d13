"""Random generators, one for each purpose, so that no two random starts are equal by accident."""

import numpy as np
import torch


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A generator that is a function of (seed, purpose); the global random state is never touched."""
    entropy = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0]) >> 1)  # torch takes seeds of 63 bits
