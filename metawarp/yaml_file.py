"""YAML files that people write, read with limits: a file from elsewhere cannot fill the memory or end the process.

A few lines of aliases can stand for billions of values, and parsers run out of stack on deep nesting.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from episodes.errors import InputError, first_line

MAX_BYTES = 2**18
"""Largest size of a file in bytes."""

MAX_DEPTH = 20
"""Largest number of lists and mappings inside each other."""

MAX_VALUES = 10**4
"""Largest number of values, each as often as aliases repeat it."""


def read_yaml(path: Path, *, aliases: bool = False) -> Any:
    """The content of a file, of plain types; InputError, with its name, if it is not YAML within the limits, or has
    aliases though these are not allowed."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {first_line(error)}.") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{str(path)!r} has more than {MAX_BYTES:,} bytes; a configuration is smaller.")
    try:
        text = data.decode("utf-8-sig")
        _require_flat(text, str(path), aliases)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and _n_values(root, {}, ()) > MAX_VALUES:
            raise InputError(f"{str(path)!r} has more than {MAX_VALUES:,} values with its aliases; divide it.")
        return yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"{str(path)!r} is not UTF-8 text; save it again with the encoding UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        place = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{str(path)!r} is not YAML{place}: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # characters that YAML excludes, impossible dates
        raise InputError(f"{str(path)!r} is not YAML: {first_line(error)}.") from None


def _require_flat(text: str, name: str, aliases: bool) -> None:
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if number > 2 * MAX_VALUES:  # each value is an event or two; aliases are counted later
            raise InputError(f"{name!r} has more than {MAX_VALUES:,} values; divide it.")
        if isinstance(event, yaml.AliasEvent) and not aliases:
            problem = f"{name!r} has an alias (*{event.anchor}) at line {event.start_mark.line + 1}"
            raise InputError(f"{problem}, and aliases are not read; write the value again.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{name!r} has more than {MAX_DEPTH} levels of lists and mappings; write it flatter.")


def _n_values(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Number of values in a node, each as often as aliases repeat it; YAMLError if a node contains itself, or aliases
    nest more deeply than `MAX_DEPTH`."""
    if id(node) in above or len(above) > MAX_DEPTH:
        raise yaml.MarkedYAMLError(
            problem="an alias contains itself, or nests too deeply", problem_mark=node.start_mark
        )
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_n_values(child, known, (*above, id(node))) for child in children)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key that is there twice, of which YAML would keep the last. Numbers are those of YAML
    1.2: 1e-3 is one, and 017 (octal in YAML 1.1) and 1:30 (base 60) are none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in keys:
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} is there twice", problem_mark=key.start_mark)
            keys.add(name)
        return super().construct_mapping(node, deep)


_INTEGER = r"[-+]?(0|[1-9]\d*)"
_FLOAT = r"[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
_NUMBERS = {"tag:yaml.org,2002:int": _INTEGER, "tag:yaml.org,2002:float": _FLOAT}

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"({_pattern})$"), list("-+.0123456789"))
