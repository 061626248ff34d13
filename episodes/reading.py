"""From a source (a file, a Hub id, a `datasets.Dataset`) to its columns, as they stand there.

Local .csv and .json files are read with the standard library instead of `datasets.load_dataset`, which
guesses types (the text "2020-01-01" comes out as a date, "NA" as missing), takes the surplus cells of a row
for an index without a word, and keeps a cache that goes stale beside an edited file. What a file says is what
a corpus gets.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import InputError, first_line, listing
from episodes.hub import load_hub_dataset

if TYPE_CHECKING:
    from datasets import Dataset

BUNDLED = ("everyday", "varied", "lengthy")
"""Corpora that come with the package, each with a split and a column "domain"."""

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")

# A Hub id may hold dots ("org/data-v1.1"), so not every suffix makes a file of a name. These do.
_FILE_SUFFIXES = {*SUFFIXES, ".txt", ".xls", ".xlsx", ".ndjson", ".arrow", ".pkl", ".gz", ".zip"}


@dataclass(frozen=True)
class Table:
    """The columns of a source, unchecked.

    Attributes:
        name: what messages call the source.
        texts: n cells of the text column, of any type.
        labels: n cells of the label column, of any type; ClassLabel numbers are already names, and None where
            the number is -1 (unlabelled), or where no label column was asked for.
        domains: n cells of the domain column, of any type; None where none was asked for.
        class_order: the names of a ClassLabel column in their order; None where the source has no order.
    """

    name: str
    texts: list[Any]
    labels: list[Any]
    domains: list[Any] | None = None
    class_order: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read; None where there is no such."""

    text: str
    label: str | None
    domain: str | None

    @property
    def wanted(self) -> list[str]:
        """Each of them once."""
        return list(dict.fromkeys(name for name in (self.text, self.label, self.domain) if name is not None))

    def require(self, name: str, available: Iterable[str]) -> None:
        """Refuse a source without one of them; `name` is what the message calls it."""
        columns = list(available)
        roles = {self.text: "text", self.label: "label", self.domain: "domain"}
        if missing := [column for column in self.wanted if column not in columns]:
            raise InputError(
                f"{name} has no column {' and no column '.join(map(repr, missing))}; its columns are: "
                f"{listing(columns)}. Name them with "
                + " and ".join(f"{roles[column]}_column (--{roles[column]}-column)" for column in self.wanted)
                + "."
            )

    def table(self, name: str, cells: Mapping[str, list[Any]], class_order: tuple[str, ...] | None = None) -> Table:
        """What was read, by column."""
        texts = cells[self.text]
        labels = [None] * len(texts) if self.label is None else cells[self.label]
        return Table(name, texts, labels, None if self.domain is None else cells[self.domain], class_order)


def read_table(
    source: object,
    text_column: str,
    label_column: str | None = None,
    subset: str | None = None,
    split: str | None = None,
    domain_column: str | None = None,
) -> Table:
    """The columns of a source; the arguments are those of `Corpus.load`, without a label column for texts alone.

    Raises:
        InputError: the source is of no known kind, does not exist, cannot be read, or lacks one of the
            columns.
    """
    columns = Columns(text_column, label_column, domain_column)
    if not isinstance(source, (str, Path)):
        return _read_object(source, columns, subset, split)
    path = Path(source).expanduser()
    bundled = source in BUNDLED
    if not bundled and not _names_a_file(source, path):
        return _columns_of(load_hub_dataset(str(source), subset, split), str(source), columns)
    if subset is not None or split is not None:
        raise InputError(f"{source} is one table: subset and split can only be given with a Hub id or a DatasetDict.")
    if bundled:
        columns = replace(columns, domain="domain")
        return _read_bytes((files("episodes") / f"data/{source}.jsonl").read_bytes(), path, columns)
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name one of its files.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is of no known kind; save it as one of: {listing(SUFFIXES)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}).") from error
    return _read_bytes(data, path, columns)


def _names_a_file(source: str | Path, path: Path) -> bool:
    if isinstance(source, Path) or path.exists() or path.suffix.lower() in _FILE_SUFFIXES:
        return True
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source


def _read_bytes(data: bytes, path: Path, columns: Columns) -> Table:
    suffix = path.suffix.lower() or ".jsonl"  # the bundled corpus goes by its name alone
    if suffix == ".parquet":
        return _columns_of(_parquet_dataset(data, path), str(path), columns)
    try:
        text = data.decode("utf-8-sig")  # Excel begins its UTF-8 files with a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not UTF-8 text (line {line}); save it again with the encoding UTF-8.") from None
    if not text.strip():
        raise InputError(f"{path} is empty; rows with {' and '.join(map(repr, columns.wanted))} are needed.")
    if suffix in (".csv", ".tsv"):
        rows = _delimited_rows(text, path, "," if suffix == ".csv" else "\t")
    else:
        rows = _json_rows(text, path)
    columns.require(str(path), dict.fromkeys(key for row in rows for key in row))
    cells = {name: [row.get(name) for row in rows] for name in columns.wanted}
    return columns.table(str(path), cells)


def _delimited_rows(text: str, path: Path, delimiter: str) -> list[dict[str, Any]]:
    # The module's limit of 131,072 characters a cell is global; it is lifted for this reading only.
    limit = csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header, *rows = [cells for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{path} is malformed at line {reader.line_num} ({error}); check its quotes.") from None
    finally:
        csv.field_size_limit(limit)
    header = [column.strip() for column in header]
    twice = [column for i, column in enumerate(header) if column in header[:i]]
    if twice:
        raise InputError(f"{path} has columns of the same name: {listing(map(repr, twice))}; give each its own.")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            raise InputError(
                f"{path}: row {number} has {len(cells)} cells and the header {len(header)}; "
                'a cell that holds the separator needs "quotes" around it.'
            )
    if not rows:
        raise InputError(f"{path} has a header ({listing(header)}) but no rows; texts are needed.")
    return [dict(zip(header, cells, strict=True)) for cells in rows]


def _json_rows(text: str, path: Path) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        rows = _json_value(text, path, 1)
    else:  # not splitlines(): it would also cut at characters that a JSON string may hold, such as U+2028
        lines = enumerate(text.split("\n"), start=1)
        rows = [_json_value(line, path, number) for number, line in lines if line.strip()]
    if not rows:
        raise InputError(f"{path} holds an empty list; texts are needed.")
    wrong = [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]
    if wrong:
        raise InputError(f'{path}: these rows are not objects such as {{"text": …}}: {listing(wrong)}.')
    return rows


def _json_value(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or lists a thousand deep
        if not isinstance(error, json.JSONDecodeError):
            raise InputError(f"{path} cannot be read as JSON from line {first_line} on ({error}).") from None
        raise InputError(
            f"{path} is not valid JSON at line {first_line + error.lineno - 1} ({error.msg}); "
            "one object a line, or one list of objects, is needed."
        ) from None


def _parquet_dataset(data: bytes, path: Path) -> Dataset:
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset

    try:
        return Dataset(pyarrow.parquet.read_table(io.BytesIO(data)))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a parquet file, or a damaged one; write it again.") from error


def _read_object(source: object, columns: Columns, subset: str | None, split: str | None) -> Table:
    from datasets import Dataset, DatasetDict

    if subset is not None:
        raise InputError("subset can only be given with a Hub id.")
    if isinstance(source, DatasetDict):
        if split not in source:
            raise InputError(f"A DatasetDict needs split, one of: {listing(source)}; it is {split!r}.")
        source = source[split]
    elif split is not None:
        raise InputError("split can only be given with a Hub id or a DatasetDict.")
    if not isinstance(source, Dataset):
        raise InputError(
            f"A corpus cannot be loaded from {type(source).__name__}; give {', '.join(map(repr, BUNDLED))}, "
            f"a file ({listing(SUFFIXES)}), a Hub id or a datasets.Dataset (not a streaming one)."
        )
    return _columns_of(source, "The data set", columns)


def _columns_of(dataset: Dataset, name: str, columns: Columns) -> Table:
    from datasets import ClassLabel

    columns.require(name, dataset.column_names)
    if len(dataset) == 0:
        raise InputError(f"{name} has no rows; texts are needed.")
    dataset = dataset.with_format(None)  # a torch format would turn labels into tensors
    cells, order = {column: dataset[column][:] for column in columns.wanted}, {}
    for column in columns.wanted:
        if column != columns.text and isinstance(feature := dataset.features[column], ClassLabel):
            order[column] = names = tuple(name.strip() for name in feature.names)
            cells[column] = [None if number is None or number < 0 else names[number] for number in cells[column]]
    return columns.table(name, cells, order.get(columns.label))
