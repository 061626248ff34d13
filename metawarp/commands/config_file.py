"""Configuration files are checked before the parser reads them: limits, names of options, and types of their values.

The parser would follow a file to further ones, run out of stack on deep nesting, and name one problem at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, make_dataclass
from typing import Any

from episodes.errors import InputError
from episodes.paths import is_there, user_path
from episodes.schemas import Strict, parsed
from metawarp.yaml_file import read_yaml

FLAG = "--config"


def config_files(arguments: Sequence[str]) -> Iterator[str]:
    """The configuration files that the arguments of a command name."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == FLAG and following:
            yield following
        elif argument.startswith(f"{FLAG}="):
            yield argument.removeprefix(f"{FLAG}=")


def check_config_file(file: str, options: Mapping[str, Any]) -> None:
    """Check a configuration file of a command.

    Args:
        file: the file.
        options: the type of each of the command's options by name, with dots, such as "training.lr".

    InputError if the file cannot be read, is no mapping, has keys that are not options, or values of other types; it
    names all of them.
    """
    path = user_path(file)
    if is_there(path) and not path.is_file():
        raise InputError(f"config={file!r} is not a file that can be read twice; write it into one.")
    content = read_yaml(path)
    if content is None:
        return
    if not isinstance(content, dict):
        raise InputError(f"{file!r} holds a {type(content).__name__}; it needs lines such as 'init: general'.")
    check_values(content, options, repr(file))


def check_values(values: Mapping[Any, Any], options: Mapping[str, Any], where: str) -> None:
    """Check values by the names of options, with dots or nested; InputError names all that are wrong."""
    parsed(_format(_nested(options)), _nested(values), where)


def _nested(values: Mapping[Any, Any]) -> dict[str, Any]:
    """A mapping in which {"training.lr": 0.1} is {"training": {"lr": 0.1}}."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        group, dot, name = str(key).partition(".")
        given = nested.get(group, {})
        if dot and isinstance(given, dict):
            nested[group] = {**given, **_nested({name: value})}
        else:
            nested[group] = {**given, **value} if isinstance(value, dict) and isinstance(given, dict) else value
    return nested


def _format(options: Mapping[str, Any], name: str = "Config") -> type:
    """A dataclass with a field for each option, and one for each group of them; none is needed."""
    types = {key: _format(kind, key) if isinstance(kind, dict) else kind for key, kind in options.items()}
    fields = [(key, kind, field(default=None)) for key, kind in types.items()]
    return make_dataclass(name, fields, bases=(Strict,), frozen=True)
