"""Which texts of a pool are most worth labelling: from nothing, from class names, or from labels of earlier rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from episodes.errors import InputError
from metawarp.adaptation.start import shared_parameters
from metawarp.backbones.store import BACKBONES
from metawarp.inits.defaults import init_and_backbone
from metawarp.inits.init import Init
from metawarp.parameters import TaskParameters
from metawarp.suggestions.features import read_features
from metawarp.suggestions.labelled import LabelledPool
from metawarp.suggestions.strategy import Pool
from metawarp.tasks.classifier import WarpClassifier
from metawarp.tasks.examples import NO_NAMES
from metawarp.tasks.task import Task
from metawarp.warp import Warp


@dataclass(frozen=True)
class Suggestions:
    """Texts that are worth labelling, with what is predicted for them.

    Attributes:
        indices: indices of n texts, best first.
        labels: (n,) predicted label of each of them; None if the classes are not known.
        probabilities: (n,) probability of each of these labels; None if the classes are not known.
    """

    indices: list[int]
    labels: np.ndarray | None = None
    probabilities: np.ndarray | None = None


def suggest(
    texts: Sequence[str],
    class_names: Mapping[Any, str] | Sequence[str] | None = None,
    labelled: Mapping[int, Any] | None = None,
    n: int = 10,
    classifier: WarpClassifier | None = None,
) -> list[int]:
    """The indices of the n texts that are most worth labelling, best first.

    The first k indices are those for n = k. The choice is a function of the arguments: nothing is drawn at random. A
    text is never suggested if it has no content, has a label, or is a copy of an earlier or labelled text.

    Args:
        texts: the pool, with the texts that have a label.
        class_names: names of the classes, as in `WarpClassifier.fit`. None: the classes are those of `labelled`. If
            there are fewer than 2 of them, the texts alone decide.
        labelled: label of each text that has one, by its index in `texts`; those of earlier rounds. Texts that belong
            to no class have the label `unknown` of the classifier.
        n: number of texts.
        classifier: a classifier, fitted or not, whose init, backbone and settings are used; it is not changed. None:
            `WarpClassifier("general")`.

    Raises:
        InputError: there are fewer than n texts to suggest, `labelled` has indices that do not exist, texts without
            content, or labels that are not in `class_names`, or the classifier cannot be fitted to them.

    Example:
        >>> from metawarp import suggest
        >>> texts = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
        >>> first = suggest(texts, n=2)
        >>> more = suggest(texts, labelled={first[0]: "delivery", first[1]: "refund"}, n=1)
    """
    return suggestions(texts, class_names, labelled, n, classifier).indices


def suggestions(
    texts: Sequence[str],
    class_names: Mapping[Any, str] | Sequence[str] | str | None = None,
    labelled: Mapping[int, Any] | None = None,
    n: int = 10,
    classifier: WarpClassifier | None = None,
) -> Suggestions:
    """The texts that `suggest` chooses, with their predicted labels; the arguments and errors are the same."""
    pool = LabelledPool.of(texts, labelled)
    pool.require(n)
    classifier = WarpClassifier("general") if classifier is None else classifier
    if not isinstance(classifier, WarpClassifier):
        raise InputError(f"classifier must be a WarpClassifier or None, not {type(classifier).__name__}.")
    labelled_rows = torch.arange(len(pool.labels))
    named = class_names is not None and not (isinstance(class_names, str) and class_names == NO_NAMES)
    if not named and len(set(pool.labels) - {classifier.unknown}) < 2:
        features = read_features(*_start(classifier), pool.used_texts)
        chosen = Pool(features, None, labelled_rows, torch.zeros_like(labelled_rows)).most_worth_labelling(n)
        return Suggestions([pool.rows[i] for i in chosen])
    task = _fitted(classifier, pool, class_names)
    features = read_features(task.warp, task.parameters, pool.used_texts)
    index = {label: i for i, label in enumerate([*task.classes.tolist(), task.unknown])}
    labels = torch.tensor([index[label] for label in pool.labels], dtype=torch.long)
    with torch.no_grad():
        scale = task.parameters.scale.to(features)
        embeddings = task.parameters.class_embeddings[0, : len(task.classes)].to(features)
        logits = task.warp.verbalizer.logits(features, embeddings, scale)
    probabilities = logits.double().softmax(-1).to(features)
    chosen = Pool(features, probabilities, labelled_rows, labels).most_worth_labelling(n)
    best = probabilities[chosen].max(-1)
    return Suggestions([pool.rows[i] for i in chosen], task.classes[best.indices.numpy()], best.values.double().numpy())


def _fitted(classifier: WarpClassifier, pool: LabelledPool, class_names: Any) -> Task:
    """The task of a classifier of the same settings, fitted to the labelled texts."""
    own = WarpClassifier(**classifier.get_params(deep=False))
    return own.fit(pool.used_texts[: len(pool.labels)], pool.labels, class_names).task_


def _start(classifier: WarpClassifier) -> tuple[Warp, TaskParameters]:
    """The model of a classifier and its parameters before it has seen any class."""
    init, many = classifier.init, "with several inits, suggest needs labelled texts of two classes to choose among them"
    if not isinstance(init, str | Init | None) and isinstance(init, Sequence):
        raise InputError(f"init is a list: {many}; name one init.")
    load = partial(BACKBONES.get, device=classifier.device, dtype=classifier.dtype)
    own, on = init_and_backbone(init, classifier.backbone, load, classifier.prompt)
    if own.config.read_out == "replaced_token":
        raise InputError("read_out='replaced_token' has no features without classes; give class_names, or labelled.")
    return own.bind(on, any_backbone=classifier.any_backbone), shared_parameters(own.on(on))
