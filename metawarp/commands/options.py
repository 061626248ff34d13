"""What the commands of the command line have in common: how they refuse, and groups of options."""

from __future__ import annotations

import re
import sys
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, Namespace

from episodes.sampler import Range
from metawarp.backbones.backbone import Backbone


class Parser(ArgumentParser):
    """Refuses in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line on stderr and exit code 2."""
        program, message = self.prog.replace(" [options]", ""), " ".join(message.split())
        missing = re.search(r"are required: ([a-z]+)\.", message)
        if missing:  # a subcommand's arguments are called train.corpus there, and typed --corpus
            program, message = f"metawarp {missing[1]}", message.replace(f" {missing[1]}.", " --")
        fail(f"{message} (see {program} --help)")


def fail(message: str) -> NoReturn:
    """One line on stderr and exit code 2."""
    print(f"metawarp: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def given(options: Namespace) -> dict[str, Any]:
    """The arguments of a command as those of the function that does it."""
    return {name: value for name, value in vars(options).items() if name not in ("config", "subcommand")}


def corpus_options(description: str, *, several: bool = False) -> ArgumentParser:
    """A parser of a command that reads a corpus, or several."""
    parser = Parser(description=description)
    one, each = (list[str] | str, '; "[a.csv,b.csv]" for several') if several else (str, "")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument(
        "--corpus",
        type=one,
        required=True,
        help=f'"everyday", "varied", "lengthy", a .csv .tsv .json .jsonl .parquet file, or a Hub id{each}',
    )
    parser.add_argument(
        "--splits",
        type=one | None,
        help='file of class names by part: {"train": […], "validation": …, "test": …}'
        + (", one each" if several else ""),
    )
    column_options(parser)
    parser.add_argument("--domain-column", type=str | None, help="column of the domains that classes belong to")
    parser.add_argument("--subset", type=str | None, help="of a Hub data set: its configuration")
    parser.add_argument("--hub-split", type=str | None, help='of a Hub data set: its split (null: "train")')
    parser.add_argument(
        "--conflicts", type=Literal["drop", "refuse"], default="drop", help="texts that stand under two labels"
    )
    return parser


def backbone_options(parser: ArgumentParser, of: str) -> None:
    """Another backbone than the one that an init or a task names, and where it runs."""
    parser.add_argument("--backbone", type=str | None, help=f"where the {of}'s own is found, if not by its name")
    parser.add_argument("--any-backbone", action="store_true", help="allow another one of the same widths")
    device_options(parser)


def device_options(parser: ArgumentParser) -> None:
    """Where a backbone runs, and in which precision."""
    parser.add_argument("--device", type=str, default="cpu", help="where the backbone runs")
    parser.add_argument("--dtype", type=str, default="float32", help="of the backbone, such as bfloat16")


def reading_options(parser: ArgumentParser) -> None:
    """How texts are read."""
    parser.add_argument("--max-tokens", type=int, default=Backbone.max_tokens, help="tokens that are read in one pass")
    parser.add_argument("--cache", type=str | None, help="folder for what the layers below the prompt make of texts")


def column_options(parser: ArgumentParser) -> None:
    """Columns of a file."""
    parser.add_argument("--text-column", type=str, default="text", help="column of the texts")
    parser.add_argument("--label-column", type=str, default="label", help="column of the labels")


def episode_options(parser: ArgumentParser, k_shot: Range, n_query: int) -> None:
    """What an episode is made of."""
    parser.add_argument("--n-way", type=Range, default=5, help='classes of an episode; "[3,8]" for a range')
    parser.add_argument("--k-shot", type=Range, default=k_shot, help="support texts a class; [1,5] for a range")
    parser.add_argument("--n-query", type=int, default=n_query, help="query texts a class")
    parser.add_argument("--seed", type=int, default=0, help="of episodes, splits and starts")
