"""The commands that list what there is: inits and backbones."""

from collections.abc import Mapping

from jsonargparse import Namespace

from metawarp.backbones.architectures import REFUSED, describe_architectures
from metawarp.commands.parser import Parser
from metawarp.inits.shipped import describe_init, shipped_inits


def inits_parser() -> Parser:
    """list the inits that ship with metawarp"""
    return Parser(description="The inits that ship with metawarp; --init takes their names.")


def run_inits(options: Namespace) -> None:
    """Print each init with its facts."""
    _print({name: describe_init(folder) for name, folder in shipped_inits().items()})


def backbones_parser() -> Parser:
    """list the supported types of backbones"""
    return Parser(description="The model types of transformers that --backbone supports, and how each is read.")


def run_backbones(options: Namespace) -> None:
    """Print each type with its facts, and what is refused."""
    _print(describe_architectures() | {"refused": REFUSED})


def _print(facts_by_name: Mapping[str, Mapping[str, object]]) -> None:
    for name, facts in facts_by_name.items():
        print(name, *(f"  {what}: {fact}" for what, fact in facts.items()), sep="\n")


COMMANDS = {"inits": (inits_parser, run_inits), "backbones": (backbones_parser, run_backbones)}
