"""Reading a source (file, Hub id or `datasets.Dataset`) into its columns, without interpreting the cells.

Local .csv and .json files are read with the standard library instead of `datasets.load_dataset`, which guesses types
(the text "2020-01-01" becomes a date, "NA" becomes missing), silently takes surplus cells of a row for an index, and
keeps a cache that goes stale when the file is edited.
"""

import csv
import io
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import InputError, first_line, listing, quoted, repeated
from episodes.hub import load_hub_dataset

if TYPE_CHECKING:
    from datasets import Dataset

BUNDLED = ("everyday", "varied", "lengthy")
"""Corpora that ship with the package, each with a class split and a column "domain"."""

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings of the files that can be read."""

# A Hub id may contain dots ("org/data-v1.1"), so not every suffix makes a name a file name. These do.
_FILE_SUFFIXES = {*SUFFIXES, ".txt", ".xls", ".xlsx", ".ndjson", ".arrow", ".pkl", ".gz", ".zip"}


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
) -> Table:
    """The columns of a source. The arguments are those of `Corpus.load`; without a label column, texts alone.

    InputError if the source is of an unknown kind, does not exist, cannot be read, or lacks a column.
    """
    requested = {"text_column": text_column, "label_column": label_column, "domain_column": domain_column}
    columns = {argument: name for argument, name in requested.items() if name is not None}
    if isinstance(source, str) and _is_hub_id(source):
        return _dataset_table(load_hub_dataset(source, subset, dataset_split), source, columns)
    if subset is not None:
        raise InputError(f"subset={subset!r} needs a Hub id; leave subset out.")
    if not isinstance(source, (str, Path)):
        return _object_table(source, columns, dataset_split)
    if dataset_split is not None:
        raise InputError(f"dataset_split={dataset_split!r} needs a Hub id or a DatasetDict; {source} is one table.")
    if source in BUNDLED:
        data = (files("episodes") / f"data/{source}.jsonl").read_bytes()
        return _file_table(data, ".jsonl", str(source), columns | {"domain_column": "domain"})
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name one of its files.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is of an unknown kind; save it as one of: {listing(SUFFIXES)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}).") from error
    return _file_table(data, path.suffix.lower(), str(path), columns)


def _is_hub_id(source: str) -> bool:
    path = Path(source).expanduser()
    if source in BUNDLED or path.exists() or path.suffix.lower() in _FILE_SUFFIXES:
        return False
    return not source.startswith((".", "/", "~")) and source.count("/") <= 1 and "\\" not in source


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


def _file_table(data: bytes, suffix: str, name: str, columns: dict[str, str]) -> Table:
    if suffix == ".parquet":
        return _dataset_table(_parquet_dataset(data, name), name, columns)
    try:
        text = data.decode("utf-8-sig")  # Excel starts its UTF-8 files with a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{name} is not UTF-8 text (line {line}); save it again with the encoding UTF-8.") from None
    if not text.strip():
        raise InputError(f"{name} is empty; it needs rows with {' and '.join(map(repr, columns.values()))}.")
    if suffix in (".csv", ".tsv"):
        rows = _delimited_rows(text, name, "," if suffix == ".csv" else "\t")
    else:
        rows = _json_rows(text, name)
    available = dict.fromkeys(key for row in rows for key in row)
    return _table(name, columns, available, lambda column: [row.get(column) for row in rows])


def _delimited_rows(text: str, name: str, delimiter: str) -> list[dict[str, Any]]:
    # The csv module's limit of 131,072 characters per cell is global; it is lifted for this call only.
    limit = csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header, *rows = [cells for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{name} is malformed at line {reader.line_num} ({error}); check its quotes.") from None
    finally:
        csv.field_size_limit(limit)
    header = [column.strip() for column in header]
    if duplicates := repeated(header):
        raise InputError(f"{name} has several columns of the same name: {quoted(duplicates)}; rename them.")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            problem = f"row {number} has {len(cells)} cells, but the header has {len(header)}"
            raise InputError(f'{name}: {problem}; a cell that contains the separator needs "quotes" around it.')
    if not rows:
        raise InputError(f"{name} has a header ({listing(header)}) but no rows; add texts.")
    return [dict(zip(header, cells, strict=True)) for cells in rows]


def _json_rows(text: str, name: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        rows = _json_value(text, name, 1)
    else:  # not splitlines(): it also splits at characters that a JSON string may contain, such as U+2028
        lines = enumerate(text.split("\n"), start=1)
        rows = [_json_value(line, name, number) for number, line in lines if line.strip()]
    if not rows:
        raise InputError(f"{name} holds an empty list; add texts.")
    if wrong := [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]:
        raise InputError(f'{name}: these rows are not objects such as {{"text": …}}: {listing(wrong)}.')
    return rows


def _json_value(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1} ({error.msg})"
        needed = "one object per line, or one list of objects"
        raise InputError(f"{name} is not valid JSON at {place}; it needs {needed}.") from None
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or lists a thousand deep
        raise InputError(f"{name} cannot be read as JSON from line {line} on ({error}).") from None


def _parquet_dataset(data: bytes, name: str) -> "Dataset":
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset

    try:
        return Dataset(pyarrow.parquet.read_table(io.BytesIO(data)))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name} is damaged or not a parquet file; write it again.") from error


def _object_table(source: object, columns: dict[str, str], split: str | None) -> Table:
    from datasets import Dataset, DatasetDict

    if isinstance(source, DatasetDict):
        if split not in source:
            raise InputError(f"dataset_split={split!r} is not in the DatasetDict; choose one of: {listing(source)}.")
        source = source[split]
    elif split is not None:
        raise InputError(f"dataset_split={split!r} needs a Hub id or a DatasetDict; leave it out.")
    if not isinstance(source, Dataset):
        needed = (
            f"{quoted(BUNDLED)}, a file ({listing(SUFFIXES)}), a Hub id or a datasets.Dataset (not a streaming one)"
        )
        raise InputError(f"A corpus cannot be loaded from {type(source).__name__}; give {needed}.")
    return _dataset_table(source, "The data set", columns)


def _dataset_table(dataset: "Dataset", name: str, columns: dict[str, str]) -> Table:
    from datasets import ClassLabel

    dataset = dataset.with_format(None)  # a torch format would turn labels into tensors
    features = {column: f for column, f in dataset.features.items() if isinstance(f, ClassLabel)}
    features.pop(columns["text_column"], None)
    orders = {column: tuple(name.strip() for name in feature.names) for column, feature in features.items()}

    def cells(column: str) -> list[Any]:
        numbers, names = dataset[column][:], orders.get(column)
        return numbers if names is None else [None if i is None or i < 0 else names[i] for i in numbers]

    return _table(name, columns, dataset.column_names, cells, orders.get(columns.get("label_column", "")))
