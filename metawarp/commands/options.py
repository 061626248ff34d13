"""Options that several commands share: the file that texts are read from, and the model."""

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from episodes import Corpus
from episodes.files import FileFormat
from episodes.reading import Table, read_table
from metawarp.commands.parser import Parser, add_options

FILE_FORMAT = ("delimiter", "encoding", "no_header")
MODEL = ("backbone", "any_backbone", "device", "dtype")
START = (*MODEL, "prompt")
MODEL_TYPES = {"backbone": str | None}
OVERWRITE_HELP = "whether an existing output is replaced"


def add_columns(parser: Parser, *kinds: str) -> None:
    """Add options for the columns of a file, such as those of its texts and labels, and for its format."""
    for kind in kinds:
        parser.add_argument(f"--{kind}-column", type=str, default=kind, help=f"name of the column of {kind}s")
    add_options(parser, Corpus.load, FILE_FORMAT)


def table_of(options: Namespace, label_column: str | None = None, source: str | None = None) -> Table:
    """The table in a file (None: that of the option `data`); errors are those of `read_table`."""
    form = FileFormat(*(getattr(options, name) for name in FILE_FORMAT))
    return read_table(source or options.data, options.text_column, label_column, form=form)


def model_of(options: Namespace, names: Sequence[str] = MODEL) -> dict[str, Any]:
    """The options for the model, by name."""
    return {name: getattr(options, name) for name in names}
