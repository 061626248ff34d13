"""Reading a source (file, Hub id or `datasets.Dataset`) into its columns, without interpreting the cells.

Local files are not read with `datasets.load_dataset`, which guesses types (the text "2020-01-01" becomes a date, "NA"
becomes missing), silently takes surplus cells of a row for an index, and keeps a cache that goes stale when the file is
edited.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import InputError, listing, quoted
from episodes.files import KINDS, PLAIN, FileFormat, is_file_name, read_columns
from episodes.hub import load_hub_dataset
from episodes.paths import is_there, user_path

if TYPE_CHECKING:
    from datasets import Dataset

BUNDLED = ("everyday", "varied", "lengthy")
"""Corpora that ship with the package, each with a class split and a column "domain"."""

OPENED = ("Image", "Audio", "Video", "Pdf", "Nifti")
"""Types of columns of `datasets` whose cells are opened when they are read."""

NUMBERED = {"text": "1", "label": "2"}
"""Which columns of a file without a header hold texts and labels, unless the user names others."""


@dataclass(frozen=True)
class Table:
    """The columns of a source, unchecked.

    Attributes:
        name: name of the source in messages.
        texts: n cells of the text column, of any type.
        labels: n cells of the label column, of any type; ClassLabel numbers are replaced by their names. None where a
            ClassLabel is -1 (unlabelled), and everywhere if no label column was requested.
        domains: n cells of the domain column, of any type; None if no domain column was requested.
        class_order: names of a ClassLabel column in their order; None if the source has no order.
    """

    name: str
    texts: list[Any]
    labels: list[Any]
    domains: list[Any] | None = None
    class_order: tuple[str, ...] | None = None


def read_table(
    source: object,
    text_column: str,
    label_column: str | None = None,
    subset: str | None = None,
    dataset_split: str | None = None,
    domain_column: str | None = None,
    form: FileFormat = PLAIN,
) -> Table:
    """The columns of a source. The arguments are those of `Corpus.load`; without a label column, texts alone.

    InputError if the source is of an unknown kind, does not exist, cannot be read, or lacks a column.
    """
    requested = {"text_column": text_column, "label_column": label_column, "domain_column": domain_column}
    columns: dict[str, str] = {argument: name for argument, name in requested.items() if name is not None}
    if form != PLAIN and not (isinstance(source, str | Path) and source not in BUNDLED and not _is_hub_id(str(source))):
        raise InputError("delimiter, encoding and no_header are for files; leave them out.")
    if isinstance(source, str) and _is_hub_id(source):
        return _dataset_table(load_hub_dataset(source, subset, dataset_split), source, columns)
    if subset is not None:
        raise InputError(f"subset={subset!r} needs a Hub id; leave subset out.")
    if not isinstance(source, (str, Path)):
        return _object_table(source, columns, dataset_split)
    if dataset_split is not None:
        raise InputError(f"dataset_split={dataset_split!r} needs a Hub id or a DatasetDict; {source} is one table.")
    if source in BUNDLED:
        with as_file(files("episodes") / f"data/{source}.jsonl") as path:
            return _file_table(path, columns | {"domain_column": "domain"}, PLAIN, str(source))
    if form.no_header:
        columns = {argument: NUMBERED.get(name, name) for argument, name in columns.items()}
    return _file_table(user_path(source), columns, form, None)


def _is_hub_id(source: str) -> bool:
    if source in BUNDLED or is_there(user_path(source)) or is_file_name(source):
        return False
    return not source.startswith((".", "/", "~")) and source.count("/") <= 1 and "\\" not in source


def _file_table(path: Path, columns: dict[str, str], form: FileFormat, name: str | None) -> Table:
    found = read_columns(path, tuple(columns.values()), form, name=name)
    order = found.class_names.get(columns.get("label_column", ""))
    return _table(found.name, columns, found.names, lambda column: found.cells[column], order)


def _table(
    name: str,
    columns: dict[str, str],
    available: Collection[str],
    cells: Callable[[str], list[Any]],
    class_order: tuple[str, ...] | None = None,
) -> Table:
    """The table of a source; `columns` maps an argument such as "text_column" to the name of a column."""
    if missing := [f"{argument}={column!r}" for argument, column in columns.items() if column not in available]:
        given = " and ".join(missing)
        raise InputError(f"{name} has no column {given}; its columns are: {listing(available)}. Name one of them.")
    if not (texts := cells(columns["text_column"])):
        raise InputError(f"{name} has no rows; add texts.")
    labels = cells(columns["label_column"]) if "label_column" in columns else [None] * len(texts)
    domains = cells(columns["domain_column"]) if "domain_column" in columns else None
    return Table(name, texts, labels, domains, class_order)


def _object_table(source: object, columns: dict[str, str], split: str | None) -> Table:
    from datasets import Dataset, DatasetDict

    if isinstance(source, DatasetDict):
        if split not in source:
            raise InputError(f"dataset_split={split!r} is not in the DatasetDict; choose one of: {listing(source)}.")
        source = source[split]
    elif split is not None:
        raise InputError(f"dataset_split={split!r} needs a Hub id or a DatasetDict; leave it out.")
    if not isinstance(source, Dataset):
        needed = f"{quoted(BUNDLED)}, a file ({listing(KINDS)}), a Hub id or a datasets.Dataset (not a streaming one)"
        raise InputError(f"A corpus cannot be loaded from {type(source).__name__}; give {needed}.")
    return _dataset_table(source, "The data set", columns)


def _dataset_table(dataset: "Dataset", name: str, columns: dict[str, str]) -> Table:
    from datasets import ClassLabel

    dataset = dataset.with_format(None)  # a torch format would turn labels into tensors
    for argument, column in columns.items():
        described = repr(dataset.features.get(column))
        if opened := [kind for kind in OPENED if f"{kind}(" in described]:  # its cells are paths that would be opened
            problem = f"{argument}={column!r} of {name} is a column of type {opened[0]}"
            raise InputError(f"{problem}; name a column of texts, labels or domains.")
    features = {column: f for column, f in dataset.features.items() if isinstance(f, ClassLabel)}
    features.pop(columns["text_column"], None)
    orders = {column: tuple(name.strip() for name in feature.names) for column, feature in features.items()}

    def cells(column: str) -> list[Any]:
        numbers, names = dataset[column][:], orders.get(column)
        return numbers if names is None else [None if i is None or i < 0 else names[i] for i in numbers]

    return _table(name, columns, dataset.column_names, cells, orders.get(columns.get("label_column", "")))
