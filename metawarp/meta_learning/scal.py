"""SCAL: supervised contrast of texts and adversarially perturbed copies of them.

References:
    Miao et al. (2021), "Simple Contrastive Representation Adversarial Learning for NLP Tasks".
    Khosla et al. (2020), "Supervised Contrastive Learning", NeurIPS, eq. 2.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.adaptation.start import read_texts, start
from metawarp.meta_learning.adversarial import perturbed
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

TEMPERATURE = 0.1
"""τ of the contrastive loss (Khosla et al., sec. 4)."""


def scal(warp: Warp, init: InitParameters, tasks: TaskBatch, epsilon: float) -> Tensor:
    """Contrastive loss of the features of support texts and of perturbed copies; see `Regularizer`.

    -1/|P(i)| Σ_p log(exp(z_i·z_p / τ) / Σ_a exp(z_i·z_a / τ)), where p are the other texts of the class and a all other
    texts of the task; the mean over a task's texts. If no task has support texts, the queries are used.
    """
    texts = tasks.support if len(tasks.support) else tasks.query
    parameters, _ = start(warp, init, tasks)
    both = (texts, perturbed(warp, parameters, tasks, texts, epsilon))
    features = torch.cat([read_texts(warp, parameters, one) for one in both])
    return contrastive_loss(features, texts.task.repeat(2), texts.label.repeat(2), len(tasks))


def contrastive_loss(features: Tensor, task: Tensor, label: Tensor, n_tasks: int) -> Tensor:
    """Supervised contrastive loss of features (B, d): near those of their class, far from others of their task."""
    features = normalize(features, dim=-1)
    others = (task[:, None] == task) & ~torch.eye(len(task), dtype=torch.bool, device=task.device)
    positives = others & (label[:, None] == label)
    # Far below all other scores; -inf has no gradient.
    scores = (features @ features.T / TEMPERATURE).masked_fill(~others, -1e4)
    log_shares = (scores - scores.logsumexp(-1, keepdim=True)).where(positives, 0.0)
    losses = -log_shares.sum(-1) / positives.sum(-1).clamp(min=1)
    has_positive = positives.any(-1).to(losses)
    totals, counts = (
        losses.new_zeros(n_tasks).index_add(0, task, values) for values in (losses * has_positive, has_positive)
    )
    # The mean over tasks of the means over their texts, which processes that share the tasks compute as well.
    return (totals / counts.clamp(min=1)).mean()
