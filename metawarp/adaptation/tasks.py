"""Episodes as tensors: T tasks side by side, each text knowing its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from episodes import Episode
from metawarp.texts.encoded import EncodedBatch
from metawarp.texts.template import TextEncoder


@dataclass(frozen=True)
class LabelledTexts:
    """B encoded texts of T tasks.

    Attributes:
        batch: the texts in their template; None where there are none (no support at zero shots).
        task: (B,) task of each text, 0 … T-1.
        label: (B,) class within its task.
    """

    batch: EncodedBatch | None
    task: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.task)

    def of(self, task: int) -> LabelledTexts:
        """The texts of one task, as those of a batch of one."""
        (rows,) = torch.where(self.task == task)
        batch = self.batch.select(rows.cpu()) if self.batch is not None and len(rows) else None
        return LabelledTexts(batch, torch.zeros_like(rows), self.label[rows])


@dataclass(frozen=True)
class TaskBatch:
    """T tasks, ready for one pass.

    Attributes:
        names: the class names as texts; `label` is the class.
        support: the labelled examples to adapt on.
        query: the examples that the adapted model is judged by.
        n_way: (T,) number of classes of each task; C is the largest.
        shots: (T, C) support texts of each class; 0 beyond a task's classes.
        corpus_class: (T, C) number of each class among all meta-training classes; -1 where it has none.
    """

    names: LabelledTexts
    support: LabelledTexts
    query: LabelledTexts
    n_way: Tensor
    shots: Tensor
    corpus_class: Tensor

    @classmethod
    def encode(
        cls,
        episodes: Sequence[Episode],
        encoder: TextEncoder,
        device: torch.device | str = "cpu",
        *,
        classes: Sequence[str] = (),
        named: bool = True,
    ) -> TaskBatch:
        """Tokenize T episodes.

        Args:
            episodes: T of them.
            encoder: the template, bound to the backbone's tokenizer.
            device: where the tensors go.
            classes: names of all meta-training classes, for methods that tell all of them apart.
            named: whether class names mean anything; where not, `names` is empty.
        """
        names = [(e.class_names, range(e.n_way)) for e in episodes] if named else []
        support = [(e.support_texts, e.support_labels) for e in episodes]
        query = [(e.query_texts, e.query_labels) for e in episodes]
        n_way = torch.tensor([e.n_way for e in episodes], device=device)
        shots = torch.zeros(len(episodes), int(n_way.max()), device=device)
        for row, episode in zip(shots, episodes, strict=True):
            row[: episode.n_way] = torch.from_numpy(np.asarray(episode.shots)).to(shots)
        number = {name: i for i, name in enumerate(classes)}
        corpus_class = torch.full_like(shots, -1, dtype=torch.long)
        for row, episode in zip(corpus_class, episodes, strict=True):
            row[: episode.n_way] = torch.tensor([number.get(name, -1) for name in episode.class_names])
        parts = (_labelled(part, encoder, device) for part in (names, support, query))
        return cls(*parts, n_way=n_way, shots=shots, corpus_class=corpus_class)

    def __len__(self) -> int:
        return len(self.n_way)

    def task(self, i: int) -> TaskBatch:
        """Task i as a batch of one."""
        at, width = slice(i, i + 1), int(self.n_way[i])
        names, support, query = (part.of(i) for part in (self.names, self.support, self.query))
        shots, corpus_class = self.shots[at, :width], self.corpus_class[at, :width]
        return TaskBatch(names, support, query, self.n_way[at], shots, corpus_class)

    @property
    def class_mask(self) -> Tensor:
        """(T, C) true where a task has that class."""
        return torch.arange(self.shots.shape[1], device=self.n_way.device) < self.n_way[:, None]


def _labelled(parts: list, encoder: TextEncoder, device: torch.device | str) -> LabelledTexts:
    texts = [text for texts, _ in parts for text in texts]
    task = torch.tensor([i for i, (texts, _) in enumerate(parts) for _ in texts], dtype=torch.long, device=device)
    label = torch.tensor([int(y) for _, labels in parts for y in labels], dtype=torch.long, device=device)
    return LabelledTexts(encoder(texts) if texts else None, task, label)
