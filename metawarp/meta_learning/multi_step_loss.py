"""MAML++'s loss over all inner steps.

References:
    Antoniou, Edwards, Storkey (2019), "How to train your MAML", ICLR, sec. 4 (multi-step loss optimization) and eq. 4.
"""


def multi_step(inner_steps: int, progress: float) -> list[float]:
    """Weights of the query losses after 0 … S steps, annealed from all steps alike (progress 0) to the last one (1)."""
    if not inner_steps:
        return [1.0]
    shared = (1 - min(max(progress, 0.0), 1.0)) / inner_steps
    return [0.0] + [shared] * (inner_steps - 1) + [1 - shared * (inner_steps - 1)]
