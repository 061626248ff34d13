"""The content of JSON and YAML files as typed settings: a dataclass is the format of a file, and pydantic checks it."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, TypeVar, get_args

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
        problems = [_sentence(kind, one) for one in error.errors(include_url=False)]
    except (TypeError, ValueError, RecursionError) as error:  # dates and other values that JSON lacks
        problems = [str(error)]
    raise InputError(f"{where} is not valid: {listing(problems, 20)}.")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _sentence(kind: type, error: Any) -> str:
    """What is wrong with one value, and where it is."""
    place, given = ".".join(map(str, error["loc"])), error.get("input")
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        names = _names(kind, error["loc"][:-1])
        return f"{place!r} is unknown{nearest(str(error['loc'][-1]), names)}"
    if error["type"] == "missing":
        return f"{place!r} is missing"
    own = error.get("ctx", {}).get("error")  # of a check in the dataclass itself
    message = f"{error['msg'].lower()}, not {_shortened(given)}" if own is None else str(own)
    return f"{place}: {message.rstrip('.')}" if place else message.rstrip(".")


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _names(kind: Any, place: Iterable[Any]) -> list[str]:
    """The names of the fields of a dataclass, or of the one that is found at a place inside of it."""
    for part in place:
        fields = getattr(kind, "__dataclass_fields__", None)
        inside = [one for one in get_args(kind) if one is not type(None)]
        kind = fields[part].type if fields and part in fields else inside[-1] if inside else None
    return list(getattr(kind, "__dataclass_fields__", {}))
