"""Keys of trainings and cells. They change with everything that a result depends on, and name the files of results."""

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from benchmarks.runner.cell import Cell
from benchmarks.runner.corpora import load_corpus
from metawarp.inits.init import Init
from metawarp.training.config import RECIPE

WITHOUT_EFFECT = ("device", "max_tokens")
"""Arguments of a training that change its result by rounding only."""


def training_key(cell: Cell, data: Path) -> str:
    """Key of the training of a cell."""
    arguments = {name: value for name, value in asdict(cell.contender.training).items() if name not in WITHOUT_EFFECT}
    corpora = [_fingerprints(name, data) for name in cell.train_on]
    return _key(RECIPE, arguments, cell.contender.reduction, cell.seed, corpora)


def reader_key(cell: Cell, data: Path) -> str:
    """Key of what reads the texts of a cell: cells that share it are measured together, and a text is read once."""
    contender, init = cell.contender, existing_init(cell)
    if not contender.reads_model:  # of a model, these baselines use only how inputs are truncated
        model = init.config if init else contender.training.model
        reader: object = [backbone_name(cell), contender.training.dtype, model.max_length, model.stride]
    elif init:
        parts = (init.config, init.inner, init.temperature)
        reader = [init.fingerprint, init.backbone.fingerprint, contender.training.dtype, *map(asdict, parts)]
    else:
        reader = training_key(cell, data)
    return _key(RECIPE, reader, contender.needs_training, _fingerprints(cell.corpus, data))


def cell_key(cell: Cell, data: Path) -> str:
    """Key of the numbers of a cell."""
    return _key(reader_key(cell, data), cell.contender.baseline, cell.seed, asdict(cell.setting))


def existing_init(cell: Cell) -> Init | None:
    """The init of a cell that exists before the benchmark; None if the cell has its own training."""
    return _load(cell.contender.init) if cell.contender.init else None


def backbone_name(cell: Cell) -> str:
    """Name of the backbone: that of the existing init, or that of the training."""
    init = existing_init(cell)
    return init.backbone.name if init else cell.contender.training.backbone


@lru_cache(maxsize=8)
def _load(init: str) -> Init:
    return Init.from_pretrained(init)


def _fingerprints(name: str, data: Path) -> list[str]:
    corpus, split = load_corpus(name, data)
    return [corpus.fingerprint, _key(split.names(), corpus.domains)]


def _key(*content: object) -> str:
    """Sha256 (16 hexadecimal digits) of content that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
