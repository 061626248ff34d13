"""Cells: what is measured at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from benchmarks.runner.plan import OTHERS, Contender, Setting, Table
from episodes.sampler import bounds
from metawarp.evaluation.baselines import BASELINES


@dataclass(frozen=True)
class Cell:
    """One training of one contender, on one corpus, in one setting.

    Attributes:
        corpus: name of the tested corpus.
        setting_name: name of the setting in its table.
        contender_name: name of the contender in its table.
        setting: settings of the episodes.
        contender: the contender, with at most one template.
        train_on: names of the corpora to train on.
        seed: seed of the training.
    """

    corpus: str
    setting_name: str
    contender_name: str
    setting: Setting
    contender: Contender
    train_on: tuple[str, ...]
    seed: int


def cells_of(table: Table) -> Iterator[Cell]:
    """The cells of a table: for each contender, corpus and setting one for every template and seed.

    There is none for a baseline that needs support texts in a setting without any.
    """
    for corpus, setting_name, contender_name in product(table.corpora, table.settings, table.contenders):
        setting, contender = table.settings[setting_name], table.contenders[contender_name]
        needs_support = contender.baseline is not None and BASELINES[contender.baseline].needs_support
        if needs_support and bounds(setting.k_shot)[0] == 0:
            continue
        if contender.train_on == OTHERS:
            train_on = tuple(name for name in table.corpora if name != corpus)
        else:
            train_on = tuple(contender.train_on) or (corpus,)
        for one, seed in product(_one_per_template(contender), contender.seeds):
            yield Cell(corpus, setting_name, contender_name, setting, one, train_on, seed)


def _one_per_template(contender: Contender) -> list[Contender]:
    arguments = contender.training
    models = [replace(arguments.model, template=template) for template in contender.templates]
    trainings = [replace(arguments, model=model) for model in models] or [arguments]
    return [replace(contender, training=training, templates=()) for training in trainings]
