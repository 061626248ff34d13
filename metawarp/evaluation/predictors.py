"""Predictors: from episodes to scores of their queries. The one of metawarp adapts an init to each episode."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from episodes import Episode
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.memory import tasks_at_once
from metawarp.adaptation.start import logits_of, read_texts
from metawarp.adaptation.temperature import Temperature
from metawarp.config import InnerLoop
from metawarp.parameters import InitParameters, mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

Predictor = Callable[[Sequence[Episode]], Iterator[np.ndarray]]
"""From episodes to the scores (Q, N) of each one's queries and classes; probabilities, if the method has them."""

EPISODES_AT_ONCE = 300
"""Number of tasks that share one adapter and are read together: a text that several of them hold is read once."""

TASKS_AT_ONCE = 8
"""Number of tasks whose adapters are adapted together: each keeps a graph through the backbone."""


def metawarp_predictor(
    warp: Warp, init: InitParameters, inner: InnerLoop, temperature: Temperature | None = None, *, chooses: bool = False
) -> Predictor:
    """The predictor that adapts an init, on the backbone's device, to the support set of each episode, as `adapt`."""
    frozen = mapped(init, Tensor.detach)
    at_once = tasks_at_once(warp, inner, TASKS_AT_ONCE) if warp.reads_again(inner) else EPISODES_AT_ONCE

    def predict(episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
        for first in range(0, len(episodes), at_once):
            tasks = TaskBatch.encode(episodes[first : first + at_once], warp.encoder, warp.backbone.device)
            adapted = adapt(warp, frozen, tasks, inner, temperature, chooses=chooses).parameters
            with torch.no_grad():
                logits = logits_of(warp, adapted, read_texts(warp, adapted, tasks.query), tasks.query, tasks)
            probabilities, task_of_query = logits.double().softmax(-1).cpu(), tasks.query.task.cpu()
            for task, n_way in enumerate(tasks.n_way.tolist()):
                yield probabilities[task_of_query == task, :n_way].numpy()

    return predict
