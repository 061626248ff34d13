"""Configuration files are checked before the parser reads them: limits, and names of options.

The parser would follow a file to further ones, run out of stack on deep nesting, and name one unknown option at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes.errors import InputError, nearest
from metawarp.yaml_file import read_yaml

FLAG = "--config"


def config_files(arguments: Sequence[str]) -> Iterator[str]:
    """The configuration files that the arguments of a command name."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == FLAG and following:
            yield following
        elif argument.startswith(f"{FLAG}="):
            yield argument.removeprefix(f"{FLAG}=")


def check_config_file(file: str, options: Sequence[str]) -> None:
    """Check a configuration file of a command.

    Args:
        file: the file.
        options: names of the command's options, with dots, such as "training.lr".

    InputError if the file cannot be read, is no mapping, or has keys that are not options; it names all of them.
    """
    path = Path(file).expanduser()
    if path.exists() and not path.is_file():
        raise InputError(f"config={file!r} is not a file that can be read twice; write it into one.")
    content = read_yaml(path)
    if content is None:
        return
    if not isinstance(content, dict):
        raise InputError(f"{file!r} holds a {type(content).__name__}; it needs lines such as 'init: general'.")
    if unknown := [name for name in _names(content, options) if name not in options]:
        advice = ", ".join(f"{name!r}{nearest(name, options)}" for name in unknown)
        raise InputError(f"{file!r} has keys that are not options: {advice}; correct or remove them.")


def _names(content: Mapping[Any, Any], options: Sequence[str], prefix: str = "") -> Iterator[str]:
    """The keys of a mapping, those of inner mappings with a dot, unless the mapping is the value of an option."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in options and any(o.startswith(f"{name}.") for o in options):
            yield from _names(value, options, f"{name}.")
        else:
            yield name
