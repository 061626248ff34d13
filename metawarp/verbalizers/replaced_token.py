"""Class embeddings for the read-out "replaced_token": the word embeddings of the class names."""

from typing import final

from torch import Tensor

from episodes import InputError
from metawarp.parameters import InitParameters
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.verbalizer import Verbalizer, by_class


@final
class ClassWords(Verbalizer):
    """Word embeddings of the names; the read-out has already compared them with the text."""

    scalars = {"log_scale": 0.0}
    uses_support = False

    def class_embeddings(
        self,
        init: InitParameters,
        tasks: TaskBatch,
        names: Tensor | None,
        support: Tensor | None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        if names is None:
            raise InputError("verbalizer='replaced_token' reads the words of the classes; give class_names.")
        return by_class(names, tasks.names, tasks.shots.shape)

    def logits(self, features: Tensor, class_embeddings: Tensor, scale: Tensor) -> Tensor:
        return scale * features
