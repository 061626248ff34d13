"""Episodes as tensors: T tasks side by side, each text with the index of its task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from episodes import Episode
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.text_encoder import TextEncoder


@dataclass(frozen=True)
class LabelledTexts:
    """B encoded texts of T tasks.

    Attributes:
        batch: the texts in their template; None if there are none (zero shots).
        task: (B,) index of each text's task, 0 … T-1.
        label: (B,) index of each text's class within its task.
    """

    batch: EncodedBatch | None
    task: Tensor
    label: Tensor

    @classmethod
    def encode(
        cls,
        tasks: Sequence[tuple[Sequence[str], Iterable[int]]],
        encoder: TextEncoder,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Tokenize the texts of T tasks, given with their labels."""
        texts = [text for texts, _ in tasks for text in texts]
        task = torch.tensor([i for i, (texts, _) in enumerate(tasks) for _ in texts], dtype=torch.long, device=device)
        label = torch.tensor([int(y) for _, labels in tasks for y in labels], dtype=torch.long, device=device)
        return cls(encoder(texts) if texts else None, task, label)

    def __len__(self) -> int:
        return len(self.task)

    @property
    def index_in_task(self) -> Tensor:
        """(B,) number of earlier texts of the same task."""
        return index_in_task(self.task)

    def of(self, task: int) -> "LabelledTexts":
        """The texts of one task, as a batch of one task."""
        (rows,) = torch.where(self.task == task)
        return replace(self.select(rows), task=torch.zeros_like(rows))

    def select(self, rows: Tensor) -> "LabelledTexts":
        """The texts with the given indices (R,)."""
        batch = self.batch.select(rows.cpu()) if self.batch is not None and len(rows) else None
        return LabelledTexts(batch, self.task[rows], self.label[rows])

    def repeated(self, number: int, n_tasks: int) -> "LabelledTexts":
        """The texts of T tasks so many times, those of the second time as texts of the tasks T … 2·T-1, and so on."""
        chosen = self.select(torch.arange(len(self), device=self.task.device).repeat(number))
        first = torch.arange(number, device=self.task.device).repeat_interleave(len(self)) * n_tasks
        return replace(chosen, task=chosen.task + first)

    def of_classes(self, new_label: Tensor) -> "LabelledTexts":
        """The texts of some classes, from the new label (T, C) of each class; -1 for those that are left out."""
        label = new_label[self.task, self.label]
        (rows,) = torch.where(label >= 0)
        return replace(self.select(rows), label=label[rows])


@dataclass(frozen=True)
class TaskBatch:
    """T tasks, ready for one forward pass.

    Attributes:
        names: class names that carry meaning, as texts; the label of a name is its class.
        support: labelled examples to adapt on.
        query: examples to evaluate the adapted model on.
        unlabelled: texts without labels to adapt on; their label is 0 and has no meaning.
        n_way: (T,) number of classes of each task; C is the largest.
        shots: (T, C) number of support texts of each class; 0 beyond a task's classes.
        corpus_class: (T, C) index of each class among all meta-training classes; -1 if it is not one of them.
    """

    names: LabelledTexts
    support: LabelledTexts
    query: LabelledTexts
    unlabelled: LabelledTexts
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
        corpus_classes: Sequence[str] = (),
    ) -> Self:
        """Tokenize T episodes. `corpus_classes` are the names of all meta-training classes, for the method `multitask`.
        Class names without meaning are left out; see `Episode.named_classes`."""
        names = [episode.named_classes for episode in episodes]
        support = [(e.support_texts, e.support_labels) for e in episodes]
        query = [(e.query_texts, e.query_labels) for e in episodes]
        unlabelled = [(texts := e.unlabelled_texts, [0] * len(texts)) for e in episodes]
        index = {name: i for i, name in enumerate(corpus_classes)}
        shots = [torch.tensor(e.shots, dtype=torch.float32) for e in episodes]
        corpus_class = [torch.tensor([index.get(name, -1) for name in e.class_names]) for e in episodes]
        padded = pad_sequence(shots, batch_first=True), pad_sequence(corpus_class, batch_first=True, padding_value=-1)
        n_way = torch.tensor([e.n_way for e in episodes], device=device)
        parts = (LabelledTexts.encode(part, encoder, device) for part in (names, support, query, unlabelled))
        own_names, examples, queries, others = parts
        return cls(own_names, examples, queries, others, n_way, padded[0].to(device), padded[1].to(device))

    def __len__(self) -> int:
        return len(self.n_way)

    def task(self, i: int) -> "TaskBatch":
        """Task i as a batch of one task."""
        at, width = slice(i, i + 1), int(self.n_way[i])
        names, support, query, unlabelled = (part.of(i) for part in self._texts)
        shots, corpus_class = self.shots[at, :width], self.corpus_class[at, :width]
        return TaskBatch(names, support, query, unlabelled, self.n_way[at], shots, corpus_class)

    def repeated(self, number: int) -> "TaskBatch":
        """The T tasks so many times: all of them, then all of them again."""
        names, support, query, unlabelled = (part.repeated(number, len(self)) for part in self._texts)
        numbers = (self.n_way.repeat(number), self.shots.repeat(number, 1), self.corpus_class.repeat(number, 1))
        return TaskBatch(names, support, query, unlabelled, *numbers)

    @property
    def _texts(self) -> tuple[LabelledTexts, LabelledTexts, LabelledTexts, LabelledTexts]:
        return self.names, self.support, self.query, self.unlabelled

    def without_unlabelled(self) -> "TaskBatch":
        """The same tasks without their unlabelled texts."""
        none = self.unlabelled.task.new_empty(0)
        return replace(self, unlabelled=LabelledTexts(None, none, none))

    def with_support(self, texts: LabelledTexts) -> "TaskBatch":
        """The same tasks with other support texts."""
        if texts is self.support:
            return self
        place, ones = (texts.task, texts.label), self.shots.new_ones(len(texts))
        shots = torch.zeros_like(self.shots).index_put(place, ones, accumulate=True)
        return replace(self, support=texts, shots=shots)

    def of_classes(self, classes: Sequence[Tensor]) -> "TaskBatch":
        """The tasks with some of their classes, whose indices are given for each task, and the texts of these; without
        unlabelled texts, which may be of any class."""
        n_way = self.n_way.new_tensor([len(chosen) for chosen in classes])
        new_label = torch.full_like(self.shots, -1, dtype=torch.long)
        index = new_label.new_zeros(len(self), int(n_way.max()))
        for row, chosen in enumerate(classes):
            new_label[row, chosen] = torch.arange(len(chosen), device=new_label.device)
            index[row, : len(chosen)] = chosen.to(index)
        names, support, query = (part.of_classes(new_label) for part in (self.names, self.support, self.query))
        within = torch.arange(index.shape[1], device=n_way.device) < n_way[:, None]
        shots, corpus_class = self.shots.gather(1, index), self.corpus_class.gather(1, index)
        corpus_class, unlabelled = torch.where(within, corpus_class, -1), self.without_unlabelled().unlabelled
        return TaskBatch(names, support, query, unlabelled, n_way, shots * within, corpus_class)

    @property
    def size(self) -> tuple[Tensor, Tensor]:
        """The mean number of support texts per class (T,) and the number of classes (T,), as real numbers."""
        return self.shots.sum(1) / self.n_way, self.n_way.to(self.shots)

    @property
    def has_name(self) -> Tensor:
        """(T, C), true where a class has a name that carries meaning."""
        has_name = torch.zeros_like(self.shots, dtype=torch.bool)
        has_name[self.names.task, self.names.label] = True
        return has_name

    @property
    def class_mask(self) -> Tensor:
        """(T, C), true where a task has that class."""
        return torch.arange(self.shots.shape[1], device=self.n_way.device) < self.n_way[:, None]


def index_in_task(task: Tensor) -> Tensor:
    """(B,) number of earlier entries of the same task."""
    counts = torch.bincount(task)
    order = torch.argsort(task, stable=True)
    index = torch.arange(len(task), device=task.device) - (counts.cumsum(0) - counts)[task[order]]
    return torch.empty_like(index).scatter_(0, order, index)


def mean_per_task(values: Tensor, task: Tensor, n_tasks: int) -> Tensor:
    """Mean (T, …) of the values (B, …) of each task; 0 for a task without values."""
    sums = values.new_zeros(n_tasks, *values.shape[1:]).index_add(0, task, values)
    return sums / torch.bincount(task, minlength=n_tasks).clamp(min=1).view(-1, *[1] * (values.dim() - 1))
