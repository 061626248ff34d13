"""The cases of the engine timing: each computes the meta-gradient of the same tasks in another way."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from metawarp.adaptation.start import start
from metawarp.backbones.backbone import twice_differentiable
from metawarp.config import GROUPS, InnerLoop
from metawarp.meta_learning.engine import ENGINES, EngineName
from metawarp.meta_learning.learn2learn_engine import algorithms
from metawarp.meta_learning.meta_gradient import MetaBatch, SecondOrder, last_step
from metawarp.meta_learning.second_order import choose_second_order
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import InitParameters, TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp

Computation = Callable[[Warp, InitParameters, TaskBatch, int], None]
"""Computes one meta-gradient with a number of inner steps."""

WHOLE_MODEL, BARE_PASSES = "learn2learn, whole model", "bare passes"
LATE, HALF = "unroll, adapter_layer", "unroll, bfloat16"


@dataclass(frozen=True)
class EngineCase:
    """One way to compute a meta-gradient.

    Attributes:
        compute: function that computes it.
        dtype: data type of the backbone.
        half_depth: whether the prompt enters at half of the layers, and a file holds the output of those below.
        task_by_task: whether tasks are computed one after the other, so that one of them is timed.
    """

    compute: Computation
    dtype: str = "float32"
    half_depth: bool = False
    task_by_task: bool = False


class WholeModel(nn.Module):
    """Backbone, prompt and class embeddings of one task as one module, all weights as parameters: usual MAML."""

    def __init__(self, warp: Warp, task: TaskParameters) -> None:
        super().__init__()
        self.warp, self.task_parameters = warp, task
        self.model = copy.deepcopy(warp.backbone.model).requires_grad_()
        for name, weights in self.model.named_parameters():
            if "pooler" in name or "word_emb" in name:
                weights.requires_grad_(False)  # not read: the model gets embeddings in the place of token ids
        self.adapter = nn.Parameter(task.adapter.detach())
        self.class_embeddings = nn.Parameter(task.class_embeddings.detach())

    def forward(self, texts: LabelledTexts) -> Tensor:
        """Mean cross-entropy of one task's texts."""
        assert texts.batch is not None
        # learn2learn clones this module, and with it the model of the clone, not that of `self.warp`.
        warp = Warp(replace(self.warp.backbone, model=self.model), self.warp.config)
        task = replace(self.task_parameters, adapter=self.adapter, class_embeddings=self.class_embeddings)
        features = warp.read(task, texts.batch, texts.task)
        return cross_entropy(warp.verbalizer.logits(features, task.class_embeddings, task.scale), texts.label)


def whole_model(warp: Warp, init: InitParameters, tasks: TaskBatch, inner_steps: int) -> None:
    """Second-order MAML by learn2learn over all weights, task by task."""
    for task in map(tasks.task, range(len(tasks))):
        module = WholeModel(warp, start(warp, init, task)[0])
        # A weight that is not used raises an error, because then it would not be the whole model that is measured.
        learner = algorithms().MAML(module, lr=0.1, allow_nograd=True, allow_unused=False)
        with twice_differentiable(True):
            clone = learner.clone()
            for _ in range(inner_steps):
                clone.adapt(clone(task.support))
            clone(task.query).backward()


def bare_passes(warp: Warp, init: InitParameters, tasks: TaskBatch, inner_steps: int) -> None:
    """Forward and backward passes of the tokens that a first-order method reads, without padding, and nothing else.

    These are the support texts once per step, and queries and class names once.
    """
    backbone = warp.backbone
    for texts, times in ((tasks.names, 1), (tasks.support, max(inner_steps, 1)), (tasks.query, 1)):
        assert texts.batch is not None
        for length in texts.batch.lengths.unique():
            (rows,) = torch.where(texts.batch.lengths == length)
            batch = texts.batch.select(rows)
            for _ in range(times):
                embeddings = backbone.embed_tokens(batch.input_ids).detach().requires_grad_()
                hidden = backbone.hidden_states(embeddings, batch.attention_mask.to(backbone.device))
                torch.autograd.grad(hidden.sum(), embeddings)


def by_engine(name: MethodName, second_order: SecondOrder = "unroll", engine: EngineName = "metawarp") -> Computation:
    """The meta-gradient of a method."""
    method = METHODS[name]

    def compute(warp: Warp, init: InitParameters, tasks: TaskBatch, inner_steps: int) -> None:
        inner = InnerLoop(inner_steps, method.inner.updates or GROUPS)
        if method.order == 2 and engine == "metawarp":
            choose_second_order(second_order, warp, tasks, inner)  # refuses what does not fit into memory
        ENGINES[engine].meta_gradient(method, init, MetaBatch(warp, tasks, inner, last_step(inner_steps), second_order))

    return compute


CASES: dict[str, EngineCase] = {
    WHOLE_MODEL: EngineCase(whole_model, task_by_task=True),
    "learn2learn, prompt": EngineCase(by_engine("maml", engine="learn2learn"), task_by_task=True),
    "unroll": EngineCase(by_engine("maml", "unroll")),
    "recompute": EngineCase(by_engine("maml", "recompute")),
    "fomaml": EngineCase(by_engine("fomaml")),
    "reptile": EngineCase(by_engine("reptile")),
    "anil": EngineCase(by_engine("anil")),
    LATE: EngineCase(by_engine("maml", "unroll"), half_depth=True),
    HALF: EngineCase(by_engine("maml", "unroll"), dtype="bfloat16"),
    "fomaml, bfloat16": EngineCase(by_engine("fomaml"), dtype="bfloat16"),
    BARE_PASSES: EngineCase(bare_passes),
}
"""All cases by name. "unroll" and "recompute" are two ways to compute second-order MAML."""
