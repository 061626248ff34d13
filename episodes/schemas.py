"""The content of JSON and YAML files as typed settings: a dataclass is the format of a file, and pydantic checks it."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from episodes.errors import InputError, listing, nearest

Kind = TypeVar("Kind")


class Strict:
    """A base of dataclasses that files are read into: every value has its type, and there are no other keys."""

    __pydantic_config__: ClassVar[ConfigDict] = {"strict": True, "extra": "forbid"}


def parsed(kind: type[Kind], content: Any, where: str) -> Kind:
    """An object of a dataclass, or of another type, from what a file holds.

    Args:
        kind: the type.
        content: what JSON or YAML gives: lists, mappings, strings, numbers, booleans and None.
        where: name of the file, or of a part of it, in messages.

    InputError names all wrong values at once, and for each unknown key the most similar one.
    """
    try:
        return _adapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        problems = _problems(kind, error.errors(include_url=False))
    except (TypeError, ValueError, RecursionError) as error:  # dates and other values that JSON lacks
        problems = [str(error)]
    raise InputError(f"{where} is not valid: {listing(problems, 20)}.")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _problems(kind: type, errors: Iterable[Any]) -> list[str]:
    """What is wrong with each value, and where it is; once for a value that may be of several types."""
    problems: list[str] = []
    needed: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        place, own = _path(kind, error["loc"]), error.get("ctx", {}).get("error")
        if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            names = getattr(_at(kind, error["loc"][:-1]), "__dataclass_fields__", {})
            problems.append(f"{place!r} is unknown{nearest(str(error['loc'][-1]), names)}")
        elif error["type"] == "missing":
            problems.append(f"{place!r} is missing")
        elif own is not None:  # of a check in the dataclass itself
            problems.append(f"{place}: {own}".removeprefix(": ").rstrip("."))
        else:
            is_long, expected = error["type"] == "too_long", error["msg"].lower().removeprefix("input should be ")
            expected = f"a list of {error['ctx']['max_length']}" if is_long else expected.replace("array", "list")
            needed.setdefault((place, _shortened(error.get("input"))), []).append(expected)
    for (place, given), expected in needed.items():
        problems.append(f"{place or 'it'} must be {' or '.join(expected)}, not {given}")
    return problems


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _path(kind: Any, place: Sequence[Any]) -> str:
    """A place as "training.steps", without the names of types that pydantic adds where a value may have several."""
    return ".".join(str(part) for i, part in enumerate(place) if not _is_union(_at(kind, place[:i])))


def _at(kind: Any, place: Iterable[Any]) -> Any:
    """The type of the value that is found at a place inside of a value of this type."""
    for part in place:
        fields = getattr(kind, "__dataclass_fields__", None)
        inside = _alternatives(kind)
        kind = fields[part].type if fields and part in fields else inside[-1] if inside else None
    return kind


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and len(_alternatives(kind)) > 1


def _alternatives(kind: Any) -> list[Any]:
    return [one for one in get_args(kind) if one is not NoneType]
