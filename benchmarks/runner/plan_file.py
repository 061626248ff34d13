"""Plans as YAML files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.runner.plan import Plan, PlotName, Setting, Table
from episodes.schemas import Strict, parsed
from metawarp.yaml_file import read_yaml

CONFIGS = ("model", "training", "inner_lr")
"""Training arguments that are mappings in YAML, as in the configuration files of `metawarp train`."""

Settings = dict[str, Any]
"""Settings by name, of which each table uses its own before they are checked."""


@dataclass(frozen=True)
class TableFile(Strict):
    """The arguments of `Table`, with settings and contenders that do not yet have what all of them share."""

    title: str
    corpora: Any
    settings: dict[str, Settings | None]
    contenders: dict[str, Settings | None]
    plots: list[PlotName] = field(default_factory=lambda: ["dots"])
    compare_with: str = ""


@dataclass(frozen=True)
class PlanFile(Strict):
    """The keys of the file: "training" (arguments of every training, as in a configuration file of `metawarp train`),
    "search" (see `Plan`), "setting" (for all settings to start from) and "tables", by name."""

    tables: dict[str, TableFile] = field(default_factory=dict)
    training: Settings = field(default_factory=dict)
    setting: Settings = field(default_factory=dict)
    search: str = ""


def read_plan(file: str | Path) -> Plan:
    """The plan of a YAML file.

    Raises:
        InputError: the file cannot be read, or has unknown keys or unusable values; it names all of them.
    """
    plan = parsed(PlanFile, read_yaml(Path(file), aliases=True), f"The plan {str(file)!r}")
    parsed(Setting, plan.setting, "setting")  # also if there is no table
    return Plan({name: _table(table, plan, f"table {name!r}") for name, table in plan.tables.items()}, plan.search)


def _table(table: TableFile, plan: PlanFile, where: str) -> Table:
    content = {"title": table.title, "corpora": table.corpora, "plots": table.plots, "compare_with": table.compare_with}
    content["settings"] = {name: {**plan.setting, **(own or {})} for name, own in table.settings.items()}
    content["contenders"] = {name: _contender(own or {}, plan.training) for name, own in table.contenders.items()}
    return parsed(Table, content, where)


def _contender(own: Settings, training: Settings) -> Settings:
    """The settings of a contender with the training that it shares with others; its own take precedence."""
    given = own.get("training") or {}
    return {**own, "training": _merged(training, given) if isinstance(given, dict) else given}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> Settings:
    """Arguments of a training; the own ones take precedence, also inside of mappings."""
    merged = {**base, **own}
    for name in CONFIGS:
        parts = [part.get(name) or {} for part in (base, own)]
        if all(isinstance(part, dict) for part in parts) and any(parts):
            merged[name] = {key: value for part in parts for key, value in part.items()}
    return merged
