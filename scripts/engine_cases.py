"""What `benchmark_engines.py` measures: each a way to take the meta-gradient of the same tasks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from metawarp import Warp
from metawarp.adaptation.adapt import start
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.tasks import LabelledTexts, TaskBatch
from metawarp.backbones.backbone import twice_differentiable
from metawarp.meta_learning import learn2learn_engine
from metawarp.meta_learning.implicit import imaml
from metawarp.meta_learning.meta_gradients import METHODS, fomaml, maml, reptile
from metawarp.meta_learning.second_order import exact_mode
from metawarp.model.warp import State

PEER, PROMPT_PEER = "learn2learn, whole model", "learn2learn, prompt"
LATE, HALF, HALF_FIRST = "unroll, prompt_layer", "unroll, bfloat16", "fomaml, bfloat16"

Case = Callable[[Warp, State, TaskBatch, int], None]
"""Takes one meta-gradient with so many inner steps."""


class WholeModel(nn.Module):
    """Backbone, prompt and rows of one task in a module, every weight a parameter: how people write MAML."""

    def __init__(self, warp: Warp, current: State) -> None:
        super().__init__()
        self.warp, self.scale, self.weights = warp, current["scale"].detach(), current["read_out"].detach()
        self.model = copy.deepcopy(warp.backbone.model).requires_grad_()
        for name, weights in self.model.named_parameters():
            if "pooler" in name or "word_emb" in name:
                weights.requires_grad_(False)  # nothing reads them: soft tokens and ids alike come as embeddings
        self.prompt, self.rows = (nn.Parameter(current[name][0].detach()) for name in GROUPS)

    def forward(self, texts: LabelledTexts) -> Tensor:
        """Mean cross-entropy of one task's texts."""
        assert texts.batch is not None
        # Of learn2learn's clone of the model, not of the first one.
        warp = Warp(replace(self.warp.backbone, model=self.model), self.warp.config)
        features = warp.features(self.prompt[None], self.weights, texts.batch, texts.task)
        return cross_entropy(warp.logits(features, self.rows, self.scale), texts.label)


def whole_model(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
    """Second-order MAML by learn2learn, task by task."""
    for task in map(tasks.task, range(len(tasks))):
        module = WholeModel(warp, start(warp, state, task)[0])
        # A weight that is not read raises: then it would not be the whole model that is measured.
        learner = learn2learn_engine.algorithms().MAML(module, lr=0.1, allow_nograd=True, allow_unused=False)
        with twice_differentiable(True):
            clone = learner.clone()
            for _ in range(steps):
                clone.adapt(clone(task.support))
            clone(task.query).backward()


def floor(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
    """Forward and backward passes of the tokens alone, texts of one length together."""
    for texts, times in ((tasks.names, 1), (tasks.support, max(steps, 1)), (tasks.query, 1)):
        assert texts.batch is not None
        for length in texts.batch.lengths.unique():
            (rows,) = torch.where(texts.batch.lengths == length)
            batch = texts.batch.select(rows)
            for _ in range(times):
                embeddings = warp.backbone.word_embeddings[batch.input_ids].detach().requires_grad_()
                hidden = warp.backbone.hidden_states(embeddings, batch.attention_mask)
                torch.autograd.grad(hidden.sum(), embeddings)


def _ours(gradient: Callable[..., Any], groups: tuple[str, ...] = GROUPS, **settings: Any) -> Case:
    def case(warp: Warp, state: State, tasks: TaskBatch, steps: int) -> None:
        inner = InnerLoop(steps, groups, proximal=float(gradient is imaml))
        if settings.get("mode") == "unroll":
            exact_mode("unroll", warp, tasks, inner)  # refuses what does not fit, before anything is allocated
        gradient(warp, state, tasks, inner, **settings)

    return case


CASES: dict[str, Case] = {
    PEER: whole_model,
    PROMPT_PEER: _ours(learn2learn_engine.meta_gradient),
    "unroll": _ours(maml, mode="unroll"),
    "recompute": _ours(maml, mode="recompute"),
    "imaml": _ours(imaml),
    "fomaml": _ours(fomaml),
    "reptile": _ours(reptile),
    "anil": _ours(maml, METHODS["anil"].inner.groups),
    LATE: _ours(maml, mode="unroll"),
    HALF: _ours(maml, mode="unroll"),
    HALF_FIRST: _ours(fomaml),
    "floor": floor,
}
