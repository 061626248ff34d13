"""What a cell is made of, and the keys that its numbers are kept under: they change with all that those depend on."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from episodes import ClassSplit, Corpus, InputError
from episodes.reading import BUNDLED
from metawarp.benchmark.plan import Cell, key_of
from metawarp.benchmark.plan_file import CONFIGS
from metawarp.evaluation.baseline_table import BASELINES
from metawarp.evaluation.protocol import SPLITS
from metawarp.inits.init import Init
from metawarp.training.config import RECIPE

DATA = "data.jsonl"

HOW = ("device", "max_tokens", "cache", "log_with")
"""Arguments of `train` that say how, and not what: the results are the same but for rounding."""


@lru_cache(maxsize=8)
def load(name: str, data: str) -> tuple[Corpus, ClassSplit]:
    """A bundled corpus, or that in the folder `name` of the data folder, with its class split.

    Raises:
        InputError: there is no such folder, or it cannot be used.
    """
    folder = Path(data) / name
    if name not in BUNDLED and not (folder / DATA).is_file():
        raise InputError(f"corpus {name!r} is not in the data folder: {str(folder / DATA)!r} is missing.")
    corpus = Corpus.load(name if name in BUNDLED else str(folder / DATA))
    return corpus, corpus.split_classes(_splits(name, data))


def _splits(name: str, data: str) -> str:
    return name if name in BUNDLED else str(Path(data) / name / SPLITS)


def training_key(cell: Cell, data: str) -> str:
    """What the training of a cell depends on, as a key."""
    settings = {name: value for name, value in cell.training.items() if name not in HOW}
    settings |= {name: asdict(cell.training[name]) for name in CONFIGS}
    return key_of([RECIPE, settings, [_fingerprints(name, data) for name in cell.train_on]])


def reader_key(cell: Cell, data: str) -> str:
    """What a cell reads texts with, as a key: cells that share it are measured together, and a text is read once."""
    training, ready = cell.contender.training, ready_init(cell)
    read: Any = [backbone_name(cell), training["dtype"]]
    if not has_model(cell):  # baselines without a prompt know no more of an init than how its inputs are cut
        like = ready.warp if ready else training["warp"]
        read += [like.max_length, like.stride]
    elif ready:
        read += [ready.fingerprint, asdict(ready.warp), asdict(ready.inner), asdict(ready.temperature)]
    else:
        read = training_key(cell, data)
    return key_of([RECIPE, read, needs_training(cell), _fingerprints(cell.corpus, data)])


def cell_key(cell: Cell, data: str) -> str:
    """What the numbers of a cell depend on, as a key."""
    return key_of([reader_key(cell, data), cell.contender.baseline, cell.seed, vars(cell.setting)])


def needs_training(cell: Cell) -> bool:
    """Whether a cell is of an init that the plan meta-trains."""
    return cell.contender.baseline is None and cell.contender.init is None and cell.contender.meta_trained


def has_model(cell: Cell) -> bool:
    """Whether a cell depends on the model that its training would have."""
    return cell.contender.baseline is None or BASELINES[cell.contender.baseline].has_model


def ready_init(cell: Cell) -> Init | None:
    """The init of a cell that is there before the benchmark."""
    return _loaded(cell.contender.init) if cell.contender.init else None


def backbone_name(cell: Cell) -> str:
    """That of its training, or the one that its init belongs to."""
    ready = ready_init(cell)
    return ready.backbone["name"] if ready else cell.contender.training["backbone"]


@lru_cache(maxsize=8)
def _loaded(init: str) -> Init:
    return Init.from_pretrained(init)


def _fingerprints(name: str, data: str) -> list[str]:
    corpus, split = load(name, data)
    return [corpus.fingerprint, key_of([split.names(), corpus.domains])]
