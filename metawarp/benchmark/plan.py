"""What a benchmark measures: tables of contenders × corpora × settings, and the cells that they are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from episodes import InputError
from episodes.errors import listing
from episodes.sampler import Range, bounds
from metawarp.evaluation.baseline_table import BASELINES
from metawarp.evaluation.scores import require_interval


@dataclass(frozen=True)
class Setting:
    """Episodes that everybody is measured on.

    Args:
        n_way: classes of an episode; "all": every test class at once.
        k_shot: support texts a class, or a range of them.
        balanced: whether all classes of an episode have the same number of shots.
        wrong_labels: share of the support texts that have another class's label.
        n_query: query texts a class.
        episodes: their number.
        seed: of the episodes.
        inner_steps: gradient steps that inits adapt with; None: as many as they were trained with.

    Raises:
        InputError: a value that no episode has.
    """

    n_way: int | str = 5
    k_shot: Range = 1
    balanced: bool = True
    wrong_labels: float = 0.0
    n_query: int = 10
    episodes: int = 600
    seed: int = 0
    inner_steps: int | None = None

    def __post_init__(self) -> None:
        require_interval(self.episodes)
        if self.n_way != "all" and not _whole(self.n_way):
            raise InputError(f'n_way is {self.n_way!r}; it must be a number of classes, or "all".')
        shots = self.k_shot if isinstance(self.k_shot, list | tuple) else (self.k_shot, self.k_shot)
        if len(shots) != 2 or not all(map(_whole, shots)):
            raise InputError(f"k_shot is {self.k_shot!r}; it must be a number of texts, or a range such as [1, 9].")


@dataclass(frozen=True)
class Contender:
    """Somebody who is measured.

    Args:
        baseline: one of `BASELINES`; None: an init.
        init: folder of one that is there already, or the name of a shipped one; None: it is trained by this plan.
            Baselines that need a model take its template and read-out.
        training: arguments of `train` but for corpora, output and seed; all of them, as `read_plan` gives them.
        train_on: corpora; none: the tested one; "others": every other one of the table.
        classes: meta-training classes that are left of each corpus, the first of a shuffled order; None: all.
        texts: texts that are left of each of them; None: all.
        seeds: of the trainings; accuracies are averaged over them, episode by episode.
        templates: the same is done with each of these, and averaged over them as well; none: that of the training.
        meta_trained: false: the start that this training would have had.
    """

    baseline: str | None = None
    init: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    train_on: Sequence[str] | str = ()
    classes: int | None = None
    texts: int | None = None
    seeds: Sequence[int] = (0,)
    templates: Sequence[str] = ()
    meta_trained: bool = True

    def __post_init__(self) -> None:
        if self.baseline is not None and self.baseline not in BASELINES:
            raise InputError(f"unknown baseline {self.baseline!r}; known: {listing(BASELINES)}.")
        if self.train_on != "others":
            _require_list(self.train_on, "train_on")
        _require_list(self.templates, "templates")
        _require_list(self.seeds, "seeds")
        if not self.seeds or not all(map(_whole, self.seeds)):
            raise InputError(f"seeds are {list(self.seeds)}; there must be one whole number at least.")
        if self.init and (self.train_on or self.cut or self.templates or not self.meta_trained):
            raise InputError(
                f"init {self.init!r} is trained already; leave out train_on, classes, texts, templates, meta_trained."
            )

    @property
    def cut(self) -> dict[str, int]:
        """Numbers of "classes" and "texts", where it may not learn from all."""
        numbers = {"classes": self.classes, "texts": self.texts}
        return {name: number for name, number in numbers.items() if number is not None}


@dataclass(frozen=True)
class Table:
    """Contenders on the test classes of some corpora.

    Args:
        title: what it shows.
        corpora: bundled ones, or names of folders with a data.jsonl and a splits.json.
        settings: by name.
        contenders: by name.
        plots: of the report, names of `report_plots.PLOTS`.
        compare_with: the contender that the others are compared with; "": in each setting, the best baseline.
    """

    title: str
    corpora: Sequence[str]
    settings: Mapping[str, Setting]
    contenders: Mapping[str, Contender]
    plots: Sequence[str] = ("bars",)
    compare_with: str = ""

    def __post_init__(self) -> None:
        _require_list(self.corpora, "corpora")
        _require_list(self.plots, "plots")
        if self.compare_with and self.compare_with not in self.contenders:
            raise InputError(
                f"compare_with is {self.compare_with!r}, which is no contender; there are {listing(self.contenders)}."
            )
        lonely = [name for name, one in self.contenders.items() if one.train_on == "others"]
        if lonely and len(self.corpora) < 2:
            raise InputError(f"{listing(lonely)} cannot train on others: {self.corpora[0]} is the only corpus here.")


@dataclass(frozen=True)
class Plan:
    """What a benchmark measures.

    Args:
        tables: by name.
        search: which search chose the settings of the trainings, and on which classes; "" where nobody says.
    """

    tables: Mapping[str, Table]
    search: str = ""


@dataclass(frozen=True)
class Cell:
    """One contender of one training seed, on one corpus, in one setting: what is measured at a time."""

    corpus: str
    setting: Setting
    contender: Contender
    train_on: tuple[str, ...]
    seed: int

    @property
    def training(self) -> dict[str, Any]:
        """What the init is trained by."""
        return {"corpora": list(self.train_on), "seed": self.seed, **self.contender.cut, **self.contender.training}


def cells_of(table: Table) -> Iterator[tuple[str, str, str, Cell]]:
    """Corpus, setting and contender by name, with each of their cells: one for every template and seed."""
    for corpus in table.corpora:
        for at, setting in table.settings.items():
            for who, contender in table.contenders.items():
                needs = contender.baseline is not None and BASELINES[contender.baseline].needs_support
                if needs and bounds(setting.k_shot)[0] == 0:
                    continue  # nothing that it could learn from
                train_on = contender.train_on or (corpus,)
                if contender.train_on == "others":
                    train_on = tuple(name for name in table.corpora if name != corpus)
                for one, seed in product(_each_template(contender), contender.seeds):
                    yield corpus, at, who, Cell(corpus, setting, one, tuple(train_on), seed)


def key_of(content: Any) -> str:
    """Sha256 (16 hex digits) of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _each_template(contender: Contender) -> list[Contender]:
    """A contender with each of its templates."""
    warp = contender.training["warp"]
    others = [{**contender.training, "warp": replace(warp, template=template)} for template in contender.templates]
    return [replace(contender, training=training, templates=()) for training in others] or [contender]


def _whole(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _require_list(given: Any, name: str) -> None:
    if not isinstance(given, list | tuple):
        raise InputError(f"{name} is {given!r}; it must be a list.")
