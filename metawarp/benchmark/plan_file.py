"""Plans of benchmarks as YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from episodes import InputError
from episodes.errors import first_line, listing
from metawarp.adaptation.inner_loop import InnerRates
from metawarp.benchmark.plan import Contender, Plan, Setting, Table
from metawarp.model.config import WarpConfig
from metawarp.training.config import TrainingConfig
from metawarp.training.train import train

OF_A_CELL = ("corpus", "output", "splits", "seed", "resume", "overwrite")
"""Arguments of `train` that a benchmark gives itself."""

CONFIGS = {"warp": WarpConfig, "training": TrainingConfig, "inner_lr": InnerRates}
"""Arguments of `train` that are written as mappings, as in the configuration files of `metawarp train`; the outer
steps, "steps", stand beside them there and here."""


def read_plan(file: str | Path) -> Plan:
    """The plan of a YAML file.

    Its keys are "training" (what a configuration file of `metawarp train` has, for all contenders to start from),
    "search" (as `Plan` has it), "setting" (of all settings), and "tables", by name, each as `Table` has it.

    Raises:
        InputError: the file cannot be read, or says something that no plan has.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"plan {str(file)!r} cannot be read: {first_line(error)}") from error
    _require_known(content, ("training", "search", "setting", "tables"), "a plan")
    training, setting = _mapping(content, "training", "a plan"), _mapping(content, "setting", "a plan")
    base = asdict(_made(Setting, setting, "setting"))
    tables = {}
    for name, table in _mapping(content, "tables", "a plan").items():
        what = f"table {name!r}"
        _require_known(table, [f.name for f in fields(Table)], what)
        if missing := [name for name in ("title", "corpora", "settings", "contenders") if not table.get(name)]:
            raise InputError(f"{what} has no {listing(missing)}; each table needs them.")
        written, contenders = _mapping(table, "contenders", what), {}
        for who in written:
            one, name_of = _mapping(written, who, what), f"contender {who!r}"
            given = {**training, **_mapping(one, "training", name_of)}
            made = _made(Contender, one, name_of)
            contenders[str(who)] = replace(made, training=_arguments(given, f"training of {who!r}"))
        written = _mapping(table, "settings", what)
        settings = {
            str(at): _made(Setting, {**base, **_mapping(written, at, what)}, f"setting {at!r}") for at in written
        }
        tables[str(name)] = _made(Table, {**table, "settings": settings, "contenders": contenders}, what)
    return Plan(tables, str(content.get("search") or ""))


def _arguments(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """All arguments of `train` but those of a cell, as it takes them; its defaults where nothing is said."""
    defaults = {name: known.default for name, known in signature(train).parameters.items() if name not in OF_A_CELL}
    _require_known(given, [*defaults, "steps"], what)
    found = {**defaults, **given}
    outer = {"steps": found.pop("steps")} if "steps" in found else {}
    for name, kind in CONFIGS.items():
        written, where = _mapping(found, name, what), f"{name} of the {what}"
        _require_known(written, [f.name for f in fields(kind) if f.name != "steps"], where)
        found[name] = _made(kind, {**written, **(outer if name == "training" else {})}, where)
    return found


def _made(kind: Any, given: Mapping[str, Any], what: str) -> Any:
    _require_known(given, [f.name for f in fields(kind)], what)
    try:
        return kind(**given)
    except (InputError, TypeError) as error:
        raise InputError(f"{what}: {error}") from error


def _mapping(given: Mapping[Any, Any], name: Any, what: str) -> Mapping[Any, Any]:
    """What stands under a name; nothing is an empty mapping."""
    found = given.get(name) or {}
    if not isinstance(found, dict):
        raise InputError(f"{name} of {what} is {found!r}; it must be a mapping.")
    return found


def _require_known(given: Any, known: Sequence[str], what: str) -> None:
    if not isinstance(given, dict):
        raise InputError(f"{what} is {given!r}; it must be a mapping of {listing(known)}.")
    if unknown := [key for key in given if key not in known]:
        raise InputError(f"{what} has the unknown keys {listing(unknown)}; known: {listing(known)}.")
