"""The features of many texts under the parameters of one task."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metawarp.parameters import TaskParameters
from metawarp.tasks.task import TEXTS_AT_ONCE
from metawarp.warp import Warp


@torch.no_grad()
def read_features(warp: Warp, parameters: TaskParameters, texts: Sequence[str]) -> Tensor:
    """Features (N, d) of N texts in float32 on the CPU; each text is read once."""
    parts = []
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        batch = warp.encoder(texts[first : first + TEXTS_AT_ONCE])
        task = torch.zeros(len(batch), dtype=torch.long, device=parameters.scale.device)
        parts.append(warp.read(parameters, batch, task).float().cpu())
    return torch.cat(parts)
