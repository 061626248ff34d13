"""Columns of .parquet files, as plain values.

What a file says of itself is not trusted: columns that it declares as images or audio are not opened, because such
columns hold paths and addresses. Only the class names of a column of label ids are taken from it.
"""

import io
import json
from collections.abc import Collection
from typing import Any

from episodes.columns import Columns
from episodes.errors import InputError, first_line, listing

MAX_ROWS = 10**7
"""Largest number of rows."""

MAX_BYTES = 2**30
"""Largest size in bytes of all columns when they are unpacked."""


def parquet_columns(data: bytes, name: str, wanted: Collection[str]) -> Columns:
    """The wanted columns of a file, among those that it has.

    InputError, with the name of the file, if it is damaged, or a label id has no class name.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        schema, groups = file.schema_arrow, range(file.metadata.num_row_groups)
        n_bytes = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        if file.metadata.num_rows > MAX_ROWS or n_bytes > MAX_BYTES:
            size = f"{file.metadata.num_rows:,} rows and {n_bytes:,} bytes when it is unpacked"
            limits = f"at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes are read"
            raise InputError(f"{name} has {size}, but {limits}; divide it.")
        names = tuple(schema.names)
        table = file.read([column for column in names if column in wanted])
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{name} is damaged or not a parquet file; write it again.") from error
    cells = {column: _values(table, column, name) for column in table.column_names}
    class_names = {column: own for column, own in _class_names(schema.metadata or {}).items() if column in cells}
    for column, own in class_names.items():
        cells[column] = [_named(label, own, name, column) for label in cells[column]]
    return Columns(name, names, cells, class_names)


def _values(table: Any, column: str, name: str) -> list[Any]:
    try:
        return table.column(column).to_pylist()
    except Exception as error:  # broken UTF-8, dates beyond Python's, types that need another package
        problem = f"the column {column!r} cannot be read ({first_line(error)})"
        raise InputError(f"{name}: {problem}; write it as text.") from error


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of the columns of label ids that `datasets` describes in the metadata of a file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        labels = {column: one["names"] for column, one in features.items() if one.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        column: tuple(label.strip() for label in names)
        for column, names in labels.items()
        if isinstance(names, list) and all(isinstance(label, str) for label in names)
    }


def _named(label: Any, class_names: tuple[str, ...], name: str, column: str) -> Any:
    if label is None or label == -1:  # as `datasets` writes a missing label
        return None
    if type(label) is not int or not 0 <= label < len(class_names):
        known = f"its class names are {listing(class_names, 5)}" if class_names else "it has no class names"
        raise InputError(f"{name}: the label {label!r} in {column!r} has no class name ({known}); correct it.")
    return class_names[label]
