"""How many numbers an adapted task keeps beside the frozen backbone."""

from metawarp.adapters.adapter import n_values
from metawarp.config import InnerLoop
from metawarp.evaluation.baselines import BaselineContext
from metawarp.warp import Warp


def numbers_per_task(warp: Warp, inner: InnerLoop, n_way: int) -> int:
    """Numbers of a task of metawarp: class embeddings, and its own adapter if the inner loop updates it."""
    own_adapter = n_values(warp.adapter) if "adapter" in inner.moving else 0
    return n_way * warp.class_embedding_size + own_adapter


def numbers_per_baseline_task(name: str, context: BaselineContext, n_way: int) -> int:
    """Numbers of a task of a baseline.

    Args:
        name: name of the baseline.
        context: what the baseline is created from.
        n_way: number of classes of the task.
    """
    backbone = context.warp.backbone
    if name in ("warp-random", "warp-mask"):
        return numbers_per_task(context.warp, context.init.inner, n_way)
    if name == "repverb":
        return n_way * backbone.feature_size
    if name == "logistic-regression":
        return n_way * (backbone.hidden_size + 1)  # with a bias
    if name == "setfit":  # a model of its own, and a logistic regression
        return sum(weights.numel() for weights in backbone.model.parameters()) + n_way * (backbone.hidden_size + 1)
    return n_way * backbone.hidden_size  # one class embedding per class
