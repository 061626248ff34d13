"""Options that several commands share: the file that texts are read from, the names of classes, and the model."""

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from episodes import Corpus
from episodes.errors import InputError, quoted
from episodes.files import FileFormat
from episodes.reading import Table, read_table
from metawarp.commands.parser import Parser, add_options
from metawarp.tasks.examples import NO_NAMES

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


def add_class_names(parser: Parser) -> None:
    """Add options for the names of classes."""
    helps = "name of a class without texts, or a name for a label of the file, as in 17=refund; repeatable"
    parser.add_argument("--class-name", action="append", default=[], help=helps)
    helps = "ignore the class names and use only the texts; for names that do not describe the texts"
    parser.add_argument("--ignore-names", action="store_true", help=helps)


def class_names_of(options: Namespace, labels: Sequence[str]) -> dict[str, str] | str | None:
    """The argument `class_names` of `WarpClassifier.fit`, from names such as "refund" and "17=refund"."""
    given = options.class_name
    if options.ignore_names:
        if given:
            raise InputError("class_name gives names, and ignore_names=True ignores them; leave one of them out.")
        return NO_NAMES
    names, given_names = {label: label for label in labels}, set[str]()
    for one in given:
        label, is_pair, name = one.partition("=")
        if not is_pair or one in names:
            names[one] = one
        elif label in given_names:
            raise InputError(f"class_name names the label {label!r} twice; give it one name.")
        elif label in labels:
            names[label] = name
            given_names.add(label)
        else:
            problem = f"class_name={one!r} names the label {label!r}, which does not occur"
            raise InputError(f"{problem}; the labels are: {quoted(sorted(set(labels))) or 'none'}.")
    return names if given else None


def model_of(options: Namespace, names: Sequence[str] = MODEL) -> dict[str, Any]:
    """The options for the model, by name."""
    return {name: getattr(options, name) for name in names}
