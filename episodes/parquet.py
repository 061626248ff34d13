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

MAX_BYTES = 2**28
"""Largest size in bytes of the columns that are read, when they are unpacked."""


def parquet_columns(data: bytes, name: str, wanted: Collection[str]) -> Columns:
    """The wanted columns of a file, among those that it has.

    InputError, with the name of the file, if it is damaged, or a label id has no class name.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        schema, groups = file.schema_arrow, range(file.metadata.num_row_groups)
        _require_size(name, file.metadata.num_rows, sum(file.metadata.row_group(i).total_byte_size for i in groups))
        names = tuple(schema.names)
        own = [column for column in names if column in wanted]
        _require_flat(name, schema, own)
        # Dictionaries stay as they are: a text that is repeated in a million rows is stored, and read, once.
        texts = [column for column in own if _is_text(schema.field(column).type)]
        table = pyarrow.parquet.ParquetFile(io.BytesIO(data), read_dictionary=texts).read(own)
        _require_size(name, table.num_rows, sum(map(_unpacked_size, table.columns)))
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{name} is damaged or not a parquet file; write it again.") from error
    cells = {column: _values(table, column, name) for column in table.column_names}
    class_names = {column: own for column, own in _class_names(schema.metadata or {}).items() if column in cells}
    for column, own in class_names.items():
        cells[column] = [_named(label, own, name, column) for label in cells[column]]
    return Columns(name, names, cells, class_names)


def _require_flat(name: str, schema: Any, columns: Collection[str]) -> None:
    from pyarrow import types

    for column in columns:
        if types.is_nested(kind := schema.field(column).type):
            raise InputError(f"{name}: the column {column!r} has values of type {kind}; write them as text.")


def _require_size(name: str, n_rows: int, n_bytes: int) -> None:
    if n_rows > MAX_ROWS or n_bytes > MAX_BYTES:
        limits = f"at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes are read"
        raise InputError(
            f"{name} has {n_rows:,} rows and {n_bytes:,} bytes when it is unpacked, but {limits}; divide it."
        )


def _unpacked_size(column: Any) -> int:
    """Number of bytes of a column whose dictionaries are written out; that of the dictionary for values of no text."""
    import pyarrow.compute
    from pyarrow import types

    compute: Any = pyarrow.compute  # its functions are made when it is imported
    if not types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return column.nbytes
    lengths = (compute.take(compute.binary_length(chunk.dictionary), chunk.indices) for chunk in column.chunks)
    return sum(compute.sum(length).as_py() or 0 for length in lengths)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind)


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
