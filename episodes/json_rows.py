"""Rows of JSON files: one object per line, or one list of objects."""

import json
from typing import Any

from episodes.errors import InputError, listing


def json_columns(text: str, name: str) -> dict[str, list[Any]]:
    """The columns of a file by name; a cell is None in rows that lack the column.

    InputError, with the name of the file, if it is not JSON, has no rows, or rows that are no objects.
    """
    if text.lstrip().startswith("["):
        rows = _value(text, name, 1)
    else:  # not splitlines(): it also splits at characters that a JSON string may contain, such as U+2028
        lines = enumerate(text.split("\n"), start=1)
        rows = [_value(line, name, number) for number, line in lines if line.strip()]
    if not rows:
        raise InputError(f"{name} holds an empty list; add texts.")
    if wrong := [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]:
        raise InputError(f'{name}: these rows are not objects such as {{"text": …}}: {listing(wrong)}.')
    columns = dict.fromkeys(key for row in rows for key in row)
    return {column: [row.get(column) for row in rows] for column in columns}


def _value(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1} ({error.msg})"
        needed = "one object per line, or one list of objects"
        raise InputError(f"{name} is not valid JSON at {place}; it needs {needed}.") from None
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or lists a thousand deep
        raise InputError(f"{name} cannot be read as JSON from line {line} on ({error}).") from None
