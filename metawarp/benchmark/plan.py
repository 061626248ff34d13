"""What a benchmark measures: tables of contenders × corpora × settings, from one YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from episodes import InputError
from episodes.errors import first_line, listing
from metawarp.adaptation.inner_loop import InnerRates
from metawarp.evaluation.baseline_table import BASELINES, NEED_SUPPORT
from metawarp.evaluation.protocol import Range, bounds
from metawarp.evaluation.scores import require_interval
from metawarp.model.warp import WarpConfig
from metawarp.training.config import TrainingConfig
from metawarp.training.train_init import train

OF_A_CELL = ("corpus", "output", "splits", "seed", "resume", "overwrite")
"""Arguments of `train` that a benchmark gives itself."""

CONFIGS = {"warp": WarpConfig, "training": TrainingConfig, "inner_lr": InnerRates}
"""Arguments of `train` that a plan writes as mappings."""


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
        steps: inner steps that inits adapt with; None: as many as they were trained with.
    """

    n_way: int | str = 5
    k_shot: Range = 1
    balanced: bool = True
    wrong_labels: float = 0.0
    n_query: int = 10
    episodes: int = 600
    seed: int = 0
    steps: int | None = None

    def __post_init__(self) -> None:
        require_interval(self.episodes)


@dataclass(frozen=True)
class Contender:
    """Somebody who is measured.

    Args:
        baseline: one of `BASELINES`; None: an init.
        init: folder of one that is there already, or the name of a shipped one; None: it is trained by this plan.
            Baselines that need a model take its template and read-out.
        training: arguments of `train` but for corpora, output and seed; `read_plan` says all of them.
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
        _require_list(self.seeds, "seeds")
        _require_list(self.templates, "templates")
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
    """

    title: str
    corpora: Sequence[str]
    settings: Mapping[str, Setting]
    contenders: Mapping[str, Contender]
    plots: Sequence[str] = ("bars",)

    def __post_init__(self) -> None:
        _require_list(self.corpora, "corpora")
        _require_list(self.plots, "plots")


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


def read_plan(file: str | Path) -> Plan:
    """The plan of a YAML file.

    Its keys are "training" (arguments of `train` that all contenders start from), "search" (as `Plan` has it),
    "setting" (of all settings), and "tables", by name, each as `Table` has it.

    Raises:
        InputError: the file cannot be read, or says something that no plan has.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"plan {str(file)!r} cannot be read: {first_line(error)}") from error
    _require_known(content, ("training", "search", "setting", "tables"), "a plan")
    training, base = content.get("training") or {}, _made(Setting, content.get("setting") or {}, "setting")
    tables = {}
    for name, table in (content.get("tables") or {}).items():
        _require_known(table, [f.name for f in fields(Table)], f"table {name!r}")
        if missing := [name for name in ("title", "corpora", "settings", "contenders") if not table.get(name)]:
            raise InputError(f"table {name!r} has no {listing(missing)}; each table needs them.")
        contenders = {}
        for who, given in table["contenders"].items():
            found, what = _made(Contender, given or {}, f"contender {who!r}"), f"training of {who!r}"
            contenders[str(who)] = replace(found, training=_arguments({**training, **found.training}, what))
        settings = {
            str(at): _made(Setting, {**asdict(base), **(given or {})}, f"setting {at!r}")
            for at, given in table["settings"].items()
        }
        tables[str(name)] = _made(Table, {**table, "settings": settings, "contenders": contenders}, f"table {name!r}")
    return Plan(tables, str(content.get("search") or ""))


def cells_of(table: Table) -> Iterator[tuple[str, str, str, Cell]]:
    """Corpus, setting and contender by name, with each of their cells: one for every template and seed."""
    for corpus in table.corpora:
        for at, setting in table.settings.items():
            for who, contender in table.contenders.items():
                if contender.baseline in NEED_SUPPORT and bounds(setting.k_shot)[0] == 0:
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


def _arguments(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """All arguments of `train` but those of a cell, as it takes them; its defaults where nothing is said."""
    defaults = {name: known.default for name, known in signature(train).parameters.items() if name not in OF_A_CELL}
    _require_known(given, list(defaults), what)
    found = {**defaults, **given}
    for name, kind in CONFIGS.items():
        found[name] = _made(kind, found[name] or {}, f"{name} of the {what}")
    return found


def _made(kind: Any, given: Mapping[str, Any], what: str) -> Any:
    _require_known(given, [f.name for f in fields(kind)], what)
    try:
        return kind(**given)
    except (InputError, TypeError) as error:
        raise InputError(f"{what}: {error}") from error


def _require_list(given: Any, name: str) -> None:
    if not isinstance(given, list | tuple):
        raise InputError(f"{name} is {given!r}; it must be a list.")


def _require_known(given: Any, known: Sequence[str], what: str) -> None:
    if not isinstance(given, dict):
        raise InputError(f"{what} is {given!r}; it must be a mapping of {listing(known)}.")
    if unknown := [key for key in given if key not in known]:
        raise InputError(f"{what} has the unknown keys {listing(unknown)}; known: {listing(known)}.")
