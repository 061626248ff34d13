"""The learned numbers: what an init holds, and what adapted tasks hold.

Both are frozen dataclasses of tensors. Plain dictionaries appear only at their borders, in optimizers and in files.
`adaptation.start` is the one conversion from an init to tasks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TypeVar

from torch import Tensor

from metawarp.config import Group, InnerLoop, WarpConfig

LEARNING_RATES: dict[Group, str] = {"adapter": "log_adapter_lr", "class_embeddings": "log_class_embedding_lr"}
"""Field of `InitParameters` with the inner learning rates of each group."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InitParameters:
    """What meta-training learns, and what a new task starts from.

    Attributes:
        adapter: initial value of the adapter, of the adapter's shape: for the adapter "prompt", K soft tokens (K, w) as
            wide as the input states of its first layer; other adapters may have several parts, which follow each other
            in one vector.
        log_scale: (), natural logarithm of the factor between similarity and logit.
        read_out_logits: (P,), logits of the weights of the P features of the read-out; None for one feature.
        name_weight: (), m in the weight w = 1 / (1 + K·e^m) of a class name beside K support texts, for the verbalizer
            "mix"; None for others.
        log_strength: (), natural logarithm of the strength of the regression (scikit-learn's C) in a task of one class
            without texts, for the verbalizer "regression"; None for others, as in the next five.
        strength_by_shots: (), coefficient of log(1 + K) in the same logarithm, where K is the mean number of texts per
            class.
        strength_by_ways: (), coefficient of log(N), where N is the number of classes.
        log_name_count: (), natural logarithm of the number of texts that a class name counts as.
        name_count_by_shots: (), coefficient of log(1 + K) in the same logarithm.
        name_count_by_ways: (), coefficient of log(N).
        log_unlabelled_count: (), natural logarithm of the number of examples per class that the unlabelled texts count
            as in a task without labelled texts; None without a regression, as in the next seven.
        unlabelled_count_by_shots: (), coefficient of log(1 + K) in the same logarithm.
        log_sharpness: (), natural logarithm of the power that the labels of unlabelled texts are raised to, in a task
            without labelled texts.
        sharpness_by_shots: (), coefficient of log(1 + K) in the same logarithm.
        log_balance: (), natural logarithm of the extent to which the proportions of classes among the unlabelled texts
            are moved to equal ones, in a task without labelled texts; 1 makes them equal.
        balance_by_shots: (), coefficient of log(1 + K) in the same logarithm.
        log_neighbour_weight: (), natural logarithm of the weight of the neighbours of a text in its label, in a task
            without labelled texts.
        neighbour_weight_by_shots: (), coefficient of log(1 + K) in the same logarithm.
        log_adapter_lr: (S,), natural logarithm of the adapter's learning rate at each of the S inner steps; (S, P), for
            each of the P parts of the adapter, with a leave-one-out loss. None if the inner loop does not update the
            adapter.
        adapter_lr_by_shots: (), coefficient of log(1 + K) in the same logarithm; None without a leave-one-out loss,
            as in the next.
        adapter_lr_by_ways: (), coefficient of log(N).
        log_class_embedding_lr: (S,), the same for class embeddings.
        log_loss_scale: (), natural logarithm of the factor between similarity and logit in a leave-one-out loss; None
            without one.
        corpus_class_embeddings: (N, d) or (N, d + 1), one class embedding for each of the N meta-training classes; only
            while the method "multitask" trains, never in a saved init.
    """

    adapter: Tensor
    log_scale: Tensor
    read_out_logits: Tensor | None = None
    name_weight: Tensor | None = None
    log_strength: Tensor | None = None
    strength_by_shots: Tensor | None = None
    strength_by_ways: Tensor | None = None
    log_name_count: Tensor | None = None
    name_count_by_shots: Tensor | None = None
    name_count_by_ways: Tensor | None = None
    log_unlabelled_count: Tensor | None = None
    unlabelled_count_by_shots: Tensor | None = None
    log_sharpness: Tensor | None = None
    sharpness_by_shots: Tensor | None = None
    log_balance: Tensor | None = None
    balance_by_shots: Tensor | None = None
    log_neighbour_weight: Tensor | None = None
    neighbour_weight_by_shots: Tensor | None = None
    log_adapter_lr: Tensor | None = None
    adapter_lr_by_shots: Tensor | None = None
    adapter_lr_by_ways: Tensor | None = None
    log_class_embedding_lr: Tensor | None = None
    log_loss_scale: Tensor | None = None
    corpus_class_embeddings: Tensor | None = None

    def inner_lr(self, group: Group, step: int) -> Tensor:
        """Inner learning rate (), or (P,), of a group of parameters at a step; later steps use the last one."""
        rates: Tensor = getattr(self, LEARNING_RATES[group])
        return rates[min(step, len(rates) - 1)].exp()


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskParameters:
    """What T adapted tasks hold; with these numbers texts are classified.

    Attributes:
        adapter: (T, …), the adapter of each task; (1, …) if all tasks share that of the init.
        class_embeddings: (T, C, d), or (T, C, d + 1) with a bias for the verbalizer "regression"; one for each class.
            Classes that a task lacks have the value 1 everywhere.
        scale: (T,), factor between similarity and logit, divided by the temperature of the task; (1,) before
            adaptation.
        read_out_weights: (P,), weights of the P features of the read-out, which sum to 1; None for one feature.
        class_means: (T, C, d), directions of the class means, to recognize unknown texts by; None without recognition.
        recognition: (T, 3), the weights of the largest logit and of the largest cosine to a class mean, and the
            constant, in the log-odds that a text is known; None without it.
    """

    adapter: Tensor
    class_embeddings: Tensor
    scale: Tensor
    read_out_weights: Tensor | None = None
    class_means: Tensor | None = None
    recognition: Tensor | None = None


Parameters = TypeVar("Parameters", InitParameters, TaskParameters)


def tensors_of(parameters: InitParameters | TaskParameters) -> dict[str, Tensor]:
    """The tensors by field name, without those that are None."""
    return {f.name: tensor for f in fields(parameters) if (tensor := getattr(parameters, f.name)) is not None}


def mapped(parameters: Parameters, function: Callable[[Tensor], Tensor]) -> Parameters:
    """The same kind of parameters with a function applied to every tensor."""
    return type(parameters)(**{name: function(tensor) for name, tensor in tensors_of(parameters).items()})


def init_shapes(
    config: WarpConfig, inner: InnerLoop, scalars: Iterable[str], n_parts: int
) -> dict[str, tuple[int, ...]]:
    """The schema of an init with a verbalizer's scalars and the number P of parts of its adapter: name and shape of
    each tensor but "adapter", whose shape depends on the backbone."""
    shapes: dict[str, tuple[int, ...]] = {"log_scale": (), **dict.fromkeys(scalars, ())}
    if len(config.features) > 1:
        shapes["read_out_logits"] = (len(config.features),)
    if inner.leaves_one_out and inner.moving:
        rates = {LEARNING_RATES["adapter"]: (inner.inner_steps, n_parts)}
        return shapes | rates | dict.fromkeys(("adapter_lr_by_shots", "adapter_lr_by_ways", "log_loss_scale"), ())
    return shapes | {LEARNING_RATES[group]: (inner.inner_steps,) for group in inner.moving}


def task_shapes(
    config: WarpConfig,
    adapter_shape: tuple[int, ...],
    n_classes: int,
    sizes: tuple[int, int],
    *,
    has_unknown: bool,
    recognizes: bool,
) -> dict[str, tuple[int, ...]]:
    """The schema of one adapted task: name and shape of each tensor.

    Args:
        config: settings of the model.
        adapter_shape: shape of the adapter.
        n_classes: number of classes.
        sizes: widths of a feature and of a class embedding.
        has_unknown: whether there is one more class embedding, of examples that belong to no class.
        recognizes: whether the task recognizes unknown texts.
    """
    embeddings = (1, n_classes + has_unknown, sizes[1])
    shapes = {"adapter": (1, *adapter_shape), "class_embeddings": embeddings, "scale": (1,)}
    if len(config.features) > 1:
        shapes["read_out_weights"] = (len(config.features),)
    if recognizes:
        shapes |= {"class_means": (1, n_classes, sizes[0]), "recognition": (1, 3)}
    return shapes


def power_law(
    shots: Tensor,
    ways: Tensor,
    log_factor: Tensor | float | None,
    shots_exponent: Tensor | float | None,
    ways_exponent: Tensor | float | None,
) -> Tensor:
    """A positive number (T,) for each of T tasks that depends on its size: e^a·(1 + K)^b·N^c, with the mean number K of
    texts per class (T,), the number N of classes (T,), and the numbers a, b and c in the order of the arguments."""
    assert log_factor is not None and shots_exponent is not None and ways_exponent is not None
    return (log_factor + shots_exponent * shots.log1p() + ways_exponent * ways.log()).exp()
