"""What a task says about texts, from their features: probabilities of its classes, and whether it knows them at all."""

from torch import Tensor

from metawarp.adaptation.recognition import log_odds
from metawarp.parameters import TaskParameters
from metawarp.warp import Warp


def predictions(
    warp: Warp, parameters: TaskParameters, features: Tensor, n_classes: int
) -> tuple[Tensor, Tensor | None]:
    """Probabilities (B, C) of the classes, and probability (B,) that a text belongs to any of them.

    The latter is None for a task that does not recognize unknown texts. Examples of unknown texts have a class
    embedding of their own, the last one; it has no part in the probabilities of the classes.

    Args:
        warp: the model.
        parameters: parameters of one task.
        features: (B, d) features of the texts.
        n_classes: number of classes C.
    """
    logits = warp.verbalizer.logits(features, parameters.class_embeddings[0], parameters.scale).double()
    of_classes = logits[:, :n_classes]
    if parameters.recognition is None:
        return of_classes.softmax(-1), None
    known = log_odds(parameters, features, of_classes.to(features)).double().sigmoid()
    return of_classes.softmax(-1), known * logits.softmax(-1)[:, :n_classes].sum(-1)
