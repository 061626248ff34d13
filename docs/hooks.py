"""MkDocs hooks: parts of pages that are generated from the package, so that they cannot differ from it.

A page contains the line `<!-- generated: NAME -->`, where NAME is a key of `GENERATED`.
"""

import inspect
import re
from argparse import Action
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from metawarp.adapters.table import ADAPTERS, DEFAULT_SIZE
from metawarp.backbones.architectures import describe_architectures
from metawarp.cli import create_parser
from metawarp.config import GROUPS
from metawarp.meta_learning.table import METHODS

MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)

OPTION_GROUPS = {"training": "Outer loop", "inner_lr": "Inner learning rates", "model": "Model"}
"""Headings of the options whose names start with a group and a dot."""

COMMON = ("help", "config", "print_config")
"""Options of every command, which the page itself describes."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts into a page."""
    return MARKER.sub(lambda marker: GENERATED[marker[1]](), markdown)


def command_line() -> str:
    """A section for each command, with a table of its options."""
    commands: Any = next(a for a in create_parser()._actions if a.dest == "subcommand").choices
    sections = []
    for name, parser in commands.items():
        sections.append(f"## metawarp {name}\n\n{parser.description}")
        groups: dict[str, list[Action]] = {}
        for action in parser._actions:
            if action.dest in COMMON:
                continue
            group, dot, _ = action.dest.partition(".")
            groups.setdefault(group if dot else "", []).append(action)
        for group, actions in groups.items():
            if group:
                sections.append(f"### {OPTION_GROUPS[group]} {{: #{name}-{group.replace('_', '-')} }}")
            rows = [[_flags(a), _values(a), _default(a), _sentence(a.help or "")] for a in actions]
            sections.append(table(["Option", "Value", "Default", "Meaning"], rows))
    return "\n\n".join(sections)


def backbones() -> str:
    """The supported model types and how each is read."""
    facts = describe_architectures()
    columns = list(next(iter(facts.values())))
    rows = [[f"`{model_type}`", *row.values()] for model_type, row in facts.items()]
    return table(["Model type", *(column[0].upper() + column[1:] for column in columns)], rows)


def adapters() -> str:
    """The adapters by name, with what they are and where they come from."""
    rows = []
    for name, adapter in ADAPTERS.items():
        size = f"{adapter.size_meaning} (default {DEFAULT_SIZE})" if adapter.size_meaning else "none"
        summary, references = _documentation(adapter)
        rows.append([f"`{name}`", summary, size, references])
    return table(["`--model.adapter`", "What each task owns", "`--model.adapter-size`", "References"], rows)


def methods() -> str:
    """The methods of meta-learning by name, with their inner loop and meta-gradient."""
    rows = []
    for name, method in METHODS.items():
        inner = method.inner
        updates = " and ".join(g.replace("_", " ") for g in GROUPS if g in inner.updates) or "nothing"
        steps = str(inner.inner_steps) if inner.updates else "none"
        rows.append([f"`{name}`", steps, updates, _meta_gradient(method)])
    return table(["`--method`", "Inner steps", "Updated by the inner loop", "Meta-gradient"], rows)


GENERATED: dict[str, Callable[[], str]] = {
    "command line": command_line,
    "backbones": backbones,
    "adapters": adapters,
    "methods": methods,
}
"""The generated parts by the name in their marker."""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _meta_gradient(method: Any) -> str:
    if method.order == 1:
        return "First order: the inner gradients count as constants."
    if method.order == 2:
        return "Exact, second order." if method.inner.updates else "Exact; there is no inner loop."
    return _sentence((inspect.getdoc(type(method)) or "").split("\n\n")[0])


def _documentation(adapter: type) -> tuple[str, str]:
    """The first sentence of an adapter's module, and the references that it gives."""
    module = inspect.getdoc(inspect.getmodule(adapter)) or ""
    summary, _, references = module.partition("References:")
    cited = re.split(r"\.\s*\n\s{4}(?=[A-Z][^\n]*\(\d{4}\))", references.strip("\n"))
    return _sentence(summary.split("\n\n")[0]), "<br>".join(_sentence(reference) for reference in cited)


def _flags(action: Action) -> str:
    """The spelling of an option; jsonargparse's "--option+", which adds to a list, is left out."""
    names = [name for name in action.option_strings if not name.endswith("+")]
    return " ".join(f"`{name}`" for name in names)


def _values(action: Action) -> str:
    """What an option accepts."""
    hint = getattr(action, "_typehint", None)
    if hint is None:
        return "none (a switch)" if action.nargs == 0 else "text"
    return _described(hint)


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        return "a range `[low,high]`"
    if get_origin(hint) is list:
        return "a list `[A,B]`"
    if parts := [part for part in get_args(hint) if part is not NoneType]:
        return " or ".join(_described(part) for part in reversed(parts) if part is not list)
    return {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}[hint]


def _default(action: Action) -> str:
    if action.required:
        return "required"
    if action.nargs == 0 or action.default in (None, [], "==SUPPRESS=="):
        return "–"
    if isinstance(action.default, tuple):
        return f"`[{','.join(map(str, action.default))}]`"
    return f"`{str(action.default).lower() if isinstance(action.default, bool) else action.default}`"


def _sentence(text: str) -> str:
    """A phrase as a sentence on one line."""
    words = " ".join(text.split())
    first, _, rest = words.partition(" ")
    if first.isascii() and first.isalpha():  # not a file name or a symbol
        words = f"{first[0].upper()}{first[1:]} {rest}"
    return words and words.rstrip() + ("" if words.endswith((".", "…")) else ".")
