"""Tasks with labelled texts, a pool of unlabelled texts, and test texts.

Intents (HWU64, all 64 classes) are its published files; headlines (HuffPost) and articles (Reuters) are tasks of the
test classes of their splits; questions (TREC) and emotions in tweets have all their classes and the official tests.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.draws import Draw, of_each_class, read_labelled
from episodes import Corpus
from episodes.splits import class_partition
from episodes.unlabelled import UnlabelledSet
from metawarp.tasks.examples import Examples

SIZES = {"hwu64": 3000, "huffpost": 2000, "trec": 2000, "tweets_emotion": 2000, "reuters": 2000}
"""Largest number of unlabelled texts by corpus."""

OTHER_TEXTS = {"hwu64": "trec", "trec": "hwu64/published", "tweets_emotion": "hwu64/published"}
"""Folder of the texts that belong to no class of a task that has all classes of its corpus."""

N_TESTS = 1000
"""Largest number of test texts of a corpus with a split."""


@dataclass(frozen=True)
class Sources:
    """Texts and labels that a task is drawn from: labelled texts, pool and tests, and texts of no class of the task."""

    labelled: tuple[np.ndarray, np.ndarray]
    pool: tuple[np.ndarray, np.ndarray]
    tests: tuple[np.ndarray, np.ndarray]
    others: np.ndarray


def sources(folder: Path, corpus: str, k_shot: float) -> Sources:
    """What a task with k texts per class is drawn from."""
    if corpus == "hwu64":
        where = folder / corpus / "published"
        labelled, pool = (read_labelled(where / f"train{part}.jsonl") for part in (f"_{10 if k_shot > 5 else 5}", ""))
        return Sources(labelled, pool, read_labelled(where / "test.jsonl"), _others(folder, corpus))
    if not (folder / corpus / "splits.json").exists():
        train, tests = (read_labelled(folder / corpus / f"{part}.jsonl") for part in ("train", "test"))
        return Sources(train, train, tests, _others(folder, corpus))
    loaded = Corpus.load(folder / corpus / "data.jsonl")
    names = class_partition(loaded.class_names, folder / corpus / "splits.json", 0, loaded.name)["test"]
    texts, labels = np.array(loaded.texts), np.array(loaded.class_names)[loaded.labels]
    own = np.isin(labels, list(names))
    rows = np.random.default_rng(0).permutation(np.flatnonzero(own))
    tested, rest = np.split(rows, [min(N_TESTS, len(rows) // 3)])
    return Sources(
        (texts[rest], labels[rest]), (texts[rest], labels[rest]), (texts[tested], labels[tested]), texts[~own]
    )


def _others(folder: Path, corpus: str) -> np.ndarray:
    return read_labelled(folder / OTHER_TEXTS[corpus] / "train.jsonl")[0]


def draw(
    source: Sources,
    k_shot: float,
    size: int,
    seed: int = 0,
    *,
    distractors: float = 0.0,
    skew: float | None = None,
    of_any_class: bool = False,
) -> Draw:
    """A task whose pool is the unlabelled texts of its examples.

    Args:
        source: what it is drawn from.
        k_shot: number of labelled texts per class; with `of_any_class`, in the mean of the classes.
        size: largest number of unlabelled texts.
        seed: seed of the draw.
        distractors: share of the unlabelled texts that belong to no class.
        skew: how many times as many of them the most frequent class has as the rarest; None: as in the corpus.
        of_any_class: whether the labelled texts are drawn from the pool whatever their classes, some of which may then
            have none.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(source.tests[1])
    if of_any_class:
        texts, labels = source.pool
        rows = rng.permutation(len(texts))[: round(k_shot * len(names))]
    else:
        texts, labels = source.labelled
        rows = of_each_class(labels, round(k_shot), seed)
    free = ~np.isin(source.pool[0], texts[rows])
    candidates, of_class = source.pool[0][free], source.pool[1][free]
    if skew is None:
        own = [rng.permutation(len(candidates))]
    else:
        own = [rng.permutation(np.flatnonzero(of_class == name)) for name in names]
    others = np.arange(len(source.others)) + len(candidates)
    chosen = UnlabelledSet(distractors, skew or 1.0).draw(rng, min(size, len(candidates)), own, others)
    pool = np.concatenate([candidates, source.others])[chosen]
    examples = Examples.of(texts[rows].tolist(), labels[rows].tolist(), names.tolist(), pool.tolist())
    return Draw(examples, source.tests[0].tolist(), source.tests[1].tolist())
