"""Plain classification of all meta-training classes, without episodes: the control that meta-learners must beat.

References:
    Vu, Lester, Constant, Al-Rfou, Cer (2022), "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL,
    sec. 2.2 (source prompt tuning on a mixture of tasks).
"""

from dataclasses import dataclass
from typing import final

import torch
from torch.nn.functional import cross_entropy

from metawarp.adaptation.start import read_texts, shared_parameters
from metawarp.config import InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, MetaGradient, Method, accuracy, gradients_of
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import mean_per_task


@final
@dataclass(frozen=True)
class Multitask(Method):
    """The gradient of the classification loss over all meta-training classes.

    The tasks provide their texts. Classes are distinguished by `corpus_class_embeddings`, one for each meta-training
    class, which are learned with the init and discarded.
    """

    min_inner_steps = 0
    needs_adapter_lr = True
    learns_corpus_classes = True

    inner: InnerLoop

    def meta_gradient(self, init: InitParameters, batch: MetaBatch) -> MetaGradient:
        warp, tasks, parameters = batch.warp, batch.tasks, shared_parameters(init)
        parts = [texts for texts in (tasks.support, tasks.query) if len(texts)]
        features = torch.cat([read_texts(warp, parameters, texts) for texts in parts])
        labels = torch.cat([tasks.corpus_class[texts.task, texts.label] for texts in parts])
        assert init.corpus_class_embeddings is not None
        logits = warp.verbalizer.logits(features, init.corpus_class_embeddings, parameters.scale)
        losses = cross_entropy(logits, labels, reduction="none")
        losses = mean_per_task(losses, torch.cat([texts.task for texts in parts]), len(tasks))
        return MetaGradient(gradients_of(losses.mean(), init), losses.detach(), accuracy(logits, labels))
