"""Label propagation: a text probably belongs to the classes of its neighbours, and of their neighbours.

References:
    Zhou et al. (2003), "Learning with Local and Global Consistency", NeurIPS, sec. 2.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.verbalizers.regression_problem import Examples

N_NEIGHBOURS, SPREAD, STEPS, POWER = 15, 0.9, 50, 4
"""Neighbours of each text; share of a label that comes from them; number of steps; power of cosines as weights."""

ROWS_AT_ONCE = 1024
"""Number of texts that are compared with all others at once, which bounds the memory."""


@torch.no_grad()
def label_propagation(examples: Examples, features: Tensor, task: Tensor) -> Tensor:
    """Probabilities (U, C) of the classes of unlabelled texts, from the labelled examples of their tasks.

    Args:
        examples: labelled examples of T tasks.
        features: features (U, d) of the unlabelled texts.
        task: (U,) index of each text's task.
    """
    found = features.new_zeros(len(features), examples.targets.shape[1])
    for t in task.unique().tolist():
        own, rows = examples.task == t, torch.where(task == t)[0]
        labels = examples.targets[own] * examples.count[own, None]
        points = torch.cat([examples.features[own], features[rows]])
        known = torch.cat([labels, labels.new_zeros(len(rows), labels.shape[1])])
        graph, spread = _graph(normalize(points, dim=-1)), known
        for _ in range(STEPS):
            spread = SPREAD * (graph @ spread) + (1 - SPREAD) * known
        reached = spread[len(labels) :]
        found[rows] = reached / reached.sum(1, keepdim=True).clamp(min=torch.finfo(reached.dtype).tiny)
    return found


def _graph(points: Tensor) -> Tensor:
    """The symmetric, normalized graph (n, n), sparse, of n points of unit length."""
    n, number = len(points), min(N_NEIGHBOURS, len(points) - 1)
    weights, places = [], []
    for first in range(0, n, ROWS_AT_ONCE):
        cosines = points[first : first + ROWS_AT_ONCE] @ points.T
        rows = torch.arange(len(cosines), device=points.device)
        cosines[rows, rows + first] = -1
        best, where = cosines.topk(number, 1)
        weights.append(best.clamp(min=0).pow(POWER).flatten())
        places.append(torch.stack([(rows + first).repeat_interleave(number), where.flatten()]))
    weight, place = torch.cat(weights) / 2, torch.cat(places, 1)
    place, weight = torch.cat([place, place.flip(0)], 1), weight.repeat(2)
    degree = weight.new_zeros(n).index_add(0, place[0], weight).clamp(min=torch.finfo(weight.dtype).tiny).rsqrt()
    normalized = degree[place[0]] * weight * degree[place[1]]
    return torch.sparse_coo_tensor(place, normalized, (n, n), check_invariants=False).coalesce()
