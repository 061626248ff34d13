"""Commands that say what there is: inits, backbones."""

from __future__ import annotations

from collections.abc import Mapping

from jsonargparse import ArgumentParser, Namespace

from metawarp.backbones.architectures import described
from metawarp.commands.options import Parser
from metawarp.inits.shipped import describe, shipped


def inits_parser() -> ArgumentParser:
    """list the inits that ship with metawarp"""
    return Parser(description="The inits that ship with metawarp; --init takes their names.")


def run_inits(options: Namespace) -> None:
    """Print each with what is worth knowing of it."""
    for name, folder in shipped().items():
        _print(name, describe(folder))


def backbones_parser() -> ArgumentParser:
    """list the types of backbone that can be used"""
    return Parser(description="The model types of transformers that --backbone may be of, and how each is read.")


def run_backbones(options: Namespace) -> None:
    """Print each with what is worth knowing of it."""
    for model_type, facts in described().items():
        _print(model_type, facts)


def _print(name: str, facts: Mapping[str, object]) -> None:
    print(name, *(f"  {what}: {fact}" for what, fact in facts.items()), sep="\n")


COMMANDS = {"inits": (inits_parser, run_inits), "backbones": (backbones_parser, run_backbones)}
