"""Plans as YAML files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.runner.plan import Contender, Plan, Setting, Table, TrainingArguments
from episodes.errors import InputError, listing
from metawarp.config import InnerLearningRates, WarpConfig
from metawarp.training.config import TrainingConfig
from metawarp.yaml_file import read_yaml

CONFIGS = {"model": WarpConfig, "training": TrainingConfig, "inner_lr": InnerLearningRates}
"""Training arguments that are mappings in YAML, as in the configuration files of `metawarp train`."""

Kind = TypeVar("Kind")
Content = Mapping[Any, Any]
"""What YAML gives: keys and values of any type."""


def read_plan(file: str | Path) -> Plan:
    """The plan of a YAML file.

    The keys of the file are "training" (arguments of every training, as in a configuration file of `metawarp train`),
    "search" (see `Plan`), "setting" (for all settings to start from) and "tables", by name, each with the arguments of
    `Table`.

    Raises:
        InputError: the file cannot be read, or has an unknown key or an unusable value.
    """
    content = read_yaml(Path(file), aliases=True)
    _require_known(content, ("training", "search", "setting", "tables"), "the plan")
    training, setting = _mapping(content, "training", "the plan"), _mapping(content, "setting", "the plan")
    base = asdict(_setting(setting, "setting"))
    tables = _mapping(content, "tables", "the plan")
    search = str(content.get("search") or "")
    return Plan({name: _table(tables[name], base, training, f"table {name!r}") for name in tables}, search)


def _table(content: Content, base: Content, training: Content, where: str) -> Table:
    _require_known(content, [f.name for f in fields(Table)], where)
    missing = [name for name in ("title", "corpora", "settings", "contenders") if not content.get(name)]
    if missing:
        raise InputError(f"{where} has no {listing(missing)}; a table needs them.")
    settings, contenders = _mapping(content, "settings", where), _mapping(content, "contenders", where)
    parsed = {
        "settings": {
            str(name): _setting({**base, **_mapping(settings, name, where)}, f"setting {str(name)!r}")
            for name in settings
        },
        "contenders": {
            str(name): _contender(_mapping(contenders, name, where), training, f"contender {str(name)!r}")
            for name in contenders
        },
    }
    return _create(Table, {**content, **parsed}, where)


def _setting(content: Content, where: str) -> Setting:
    return _create(Setting, _with_ranges(content), where)


def _contender(content: Content, training: Content, where: str) -> Contender:
    own = _mapping(content, "training", where)
    contender = _create(Contender, {**content, "training": TrainingArguments()}, where)
    return replace(contender, training=_training(training, own, f"training of {where}"))


def _training(base: Content, own: Content, where: str) -> TrainingArguments:
    """The arguments of a training; those of a contender take precedence, also inside of mappings."""
    merged = {**base, **own}
    for name, kind in CONFIGS.items():
        config = {**_mapping(base, name, where), **_mapping(own, name, where)}
        merged[name] = _create(kind, config, f"{name} of the {where}")
    return _create(TrainingArguments, _with_ranges(merged), where)


def _with_ranges(content: Content) -> dict[str, Any]:
    """The same content with ranges as tuples, which YAML does not have."""
    ranges = {name: tuple(content[name]) for name in ("n_way", "k_shot") if isinstance(content.get(name), list)}
    return {**content, **ranges}


def _create(kind: type[Kind], content: Content, where: str) -> Kind:
    _require_known(content, [f.name for f in fields(kind)], where)  # pyright: ignore[reportArgumentType]
    try:
        return kind(**content)
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from error


def _mapping(content: Content, name: object, where: str) -> Content:
    """The mapping under a key; nothing is an empty mapping."""
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise InputError(f"{str(name)!r} of {where} is {value!r}; it must be a mapping.")
    return value


def _require_known(content: object, known: Sequence[str], where: str) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}; it must be a mapping with the keys: {listing(known, len(known))}.")
    if unknown := [key for key in content if key not in known]:
        raise InputError(f"{where} has unknown keys ({listing(unknown)}); known keys: {listing(known, len(known))}.")
