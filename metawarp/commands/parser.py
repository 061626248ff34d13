"""Parsers of commands: their options come from the arguments and docstrings of the functions that do the work."""

import re
import sys
from argparse import Action
from collections.abc import Callable, Collection, Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, NoReturn

from docstring_parser import parse
from jsonargparse import ArgumentParser

from episodes.errors import InputError, nearest, printable
from metawarp.commands.config_file import check_values

BACKBONE_HELP = 'language model: "minilm", a folder, or a Hub id (null: that of the init or task)'


class Parser(ArgumentParser):
    """A parser that refuses input in one line, with exit code 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(print_config="--print-config", allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line on stderr and exit."""
        program, message = self.prog.replace(" [options]", ""), " ".join(message.split())
        if missing := re.search(r"are required: ([a-z]+)\.", message):
            # The arguments of a subcommand are called train.corpus there, and typed --corpus.
            program, message = f"metawarp {missing[1]}", message.replace(f" {missing[1]}.", " --")
        elif wrong := re.match(r'Parser key "([\w.]+)": .*(?:Given|Got) value: (.*)', message):
            message = self._about_value(wrong[1], wrong[2]) or message
        elif unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            message = f"There is no option {unknown[1]}{nearest(unknown[1], self._option_string_actions)}"
        elif unknown := re.match(r"argument subcommand: invalid choice: '(.*?)' \(choose from (.*)\)", message):
            commands = unknown[2].replace("'", "").split(", ")
            message = f"There is no command {unknown[1]!r}{nearest(unknown[1], commands)}"
        fail(f"{message} (see {program} --help)")

    def _about_value(self, name: str, value: str) -> str | None:
        """What an option needs instead of a value; None if the value has the right type."""
        try:
            check_values({name: value}, option_types(self), "The command line")
        except InputError as error:
            return str(error).replace(f": {name} ", f": --{name.replace('_', '-')} ")
        return None


def command_parser(description: str) -> Parser:
    """A parser whose options can also be read from a YAML file."""
    parser = Parser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with options")
    return parser


def add_options(
    parser: Parser,
    source: Callable[..., object],
    only: Collection[str] | None = None,
    *,
    prefix: str = "",
    skip: Collection[str] = (),
    types: Mapping[str, Any] | None = None,
    helps: Mapping[str, str] | None = None,
) -> None:
    """Add an option for each argument of a function or dataclass, with its type, default and docstring.

    `only` and `skip` choose among the arguments. The names of the options begin with the prefix, such as "training.".
    Types and help texts by name replace those of the arguments.
    """
    phrases = {p.arg_name: _as_help(p.description or "") for p in parse(source.__doc__ or "").params}
    phrases |= {"backbone": BACKBONE_HELP, **(helps or {})}
    for name, parameter in signature(source).parameters.items():
        if name in skip or (only is not None and name not in only):
            continue
        flag, kind = "--" + f"{prefix}{name}".replace("_", "-"), (types or {}).get(name, parameter.annotation)
        if parameter.default is Parameter.empty:
            parser.add_argument(flag, type=kind, required=True, help=phrases[name])
        elif parameter.default is False:
            parser.add_argument(flag, action="store_true", help=phrases[name])
        else:
            parser.add_argument(flag, type=kind, default=parameter.default, help=phrases[name])


def option_types(parser: Parser) -> dict[str, Any]:
    """The options that a configuration file may give, such as "training.lr", and the type of each one's value."""
    others = {"help", "config", "print_config", "version"}
    return {action.dest: _type_of(action) for action in parser._actions if action.dest not in others}


def _type_of(action: Action) -> Any:
    if action.nargs == 0:  # a flag
        return bool
    return list[str] if isinstance(action.default, list) else getattr(action, "_typehint", str)


def _as_help(description: str) -> str:
    """A phrase of a docstring, with values as they are typed on the command line."""
    return " ".join(description.split()).removesuffix(".").replace("None", "null").replace("(low, high)", "[low,high]")


def with_flags(message: str, option_names: Iterable[str]) -> str:
    """An error message, followed by the flags of the arguments that it names as `name=value`. The flag is that of the
    first option with this name, with or without a prefix: "n_way", or "training.lr" for lr."""
    names = list(option_names)
    mentioned = dict.fromkeys(re.findall(r"\b([a-z_]+(?:\.[a-z_]+)*)=", message))
    options = [next((n for n in names if f".{n}".endswith(f".{argument}")), None) for argument in mentioned]
    flags = ", ".join("--" + name.replace("_", "-") for name in dict.fromkeys(options) if name)
    return f"{message} (flags: {flags})" if flags else message


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on stderr and exit."""
    print(f"metawarp: error: {printable(message)}", file=sys.stderr)
    raise SystemExit(code)
