"""The corpora of a benchmark, and how much of them a contender may learn from."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.runner.plan import Contender
from episodes import ClassSplit, Corpus, InputError
from episodes.protocol import SPLITS_FILE
from episodes.reading import BUNDLED

TEXTS_FILE = "data.jsonl"


@lru_cache(maxsize=8)
def load_corpus(name: str, data: Path) -> tuple[Corpus, ClassSplit]:
    """A corpus and its class split.

    Args:
        name: name of a bundled corpus, or of a folder with data.jsonl and splits.json.
        data: folder that holds the folders of the corpora.

    Raises:
        InputError: there is no such folder, or its files cannot be used.
    """
    if name in BUNDLED:
        corpus = Corpus.load(name)
        return corpus, corpus.split_classes(name)
    file = data / name / TEXTS_FILE
    if not file.is_file():
        raise InputError(f"The corpus {name!r} is not in the data folder: there is no file {str(file)!r}.")
    corpus = Corpus.load(file)
    return corpus, corpus.split_classes(data / name / SPLITS_FILE)


def reduced_corpus(corpus: Corpus, split: ClassSplit, contender: Contender) -> tuple[Corpus, dict[str, list[str]]]:
    """What a contender may learn from: a corpus with fewer meta-training classes and texts, and its class split.

    A smaller selection is part of every larger one. Validation and test classes stay as they are.
    """
    rng, names = np.random.default_rng(0), split.names()
    trained = [str(name) for name in rng.permutation(names["train"])]
    names["train"] = trained[: contender.classes]
    kept = []
    for number, name in enumerate(corpus.class_names):
        rows = rng.permutation(corpus.rows_of(number))
        if name in names["train"]:
            kept += rows[: contender.texts].tolist()
        elif name not in trained:
            kept += rows.tolist()
    kept.sort()
    smaller = replace(corpus, texts=tuple(corpus.texts[row] for row in kept), labels=corpus.labels[kept])
    return smaller.select_classes(name for part in names.values() for name in part), names
