"""Rows of .csv and .tsv files, in the dialect that the file is written in.

Spreadsheets write "quotes" around a cell that contains the separator, a quotation mark or a line break. Other programs
separate cells by tabs and write every line as it is; there, a quotation mark is a character like any other, and a
reader that takes it for the beginning of a quoted cell swallows the following lines.
"""

import csv
import io
import logging
import re
from collections.abc import Collection

from episodes.errors import InputError, listing, quoted, repeated

logger = logging.getLogger(__name__)

_SEP_LINE = re.compile(r"sep=(.)[\r\n]+")

DELIMITERS = (",", "\t", ";", "|")
"""Separators that are tried in turn, that of the file's ending first."""


def delimited_columns(
    text: str, name: str, wanted: Collection[str], delimiter: str, *, guess: bool, no_header: bool
) -> dict[str, list[str]]:
    """The columns of a file by name.

    Args:
        text: content of the file.
        name: name of the file in messages.
        wanted: names of the columns that will be used.
        delimiter: separator of the cells.
        guess: whether another one of `DELIMITERS` is used if only that one gives the wanted columns.
        no_header: whether the first line is a row; columns are then called "1", "2", …

    InputError if rows have different numbers of cells, quotes are unbalanced, or there are no rows.
    """
    if named := _SEP_LINE.match(text):  # as Excel writes it
        text, delimiter, guess = text[named.end() :], named[1] if guess else delimiter, False
    if guess:
        delimiter = _guessed(text, wanted, delimiter, no_header)
    rows = [cells for cells in _rows(text, name, delimiter) if cells]
    if no_header and guess and (unused := len(rows[0]) - len(wanted)) > 0:
        message = "%s: %d columns are not used; name the separator of the cells if these are parts of a text"
        logger.warning(message, name, unused)
    header = [str(i) for i in range(1, len(rows[0]) + 1)] if no_header else [cell.strip() for cell in rows.pop(0)]
    if duplicates := repeated(header):
        raise InputError(f"{name} has several columns of the same name: {quoted(duplicates)}; rename them.")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            width = f"the {'first row' if no_header else 'header'} has {len(header)}"
            problem = f"row {number} has {len(cells)} cells, but {width}"
            raise InputError(f'{name}: {problem}; a cell that contains the separator needs "quotes" around it.')
    if not rows:
        raise InputError(f"{name} has a header ({listing(header)}) but no rows; add texts.")
    broken = [number for number, cells in enumerate(rows, start=1) if any("\n" in c or "\r" in c for c in cells)]
    if broken:
        message = "%s: cells of %d of %d rows contain line breaks (rows %s); check these if you did not write them"
        logger.warning(message, name, len(broken), len(rows), listing(broken, 3))
    return {column: [cells[i] for cells in rows] for i, column in enumerate(header)}


def _guessed(text: str, wanted: Collection[str], usual: str, no_header: bool) -> str:
    """The separator that gives the first line the wanted columns; if none does, the usual one, or the most frequent one
    if the usual one is not there."""
    line = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    width = max([len(wanted), *(int(name) for name in wanted if name.isdecimal())])  # that a file without header needs

    def fits(delimiter: str) -> bool:
        cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
        return len(cells) >= width > 1 if no_header else set(wanted) <= set(cells)

    tried = (usual, *DELIMITERS)
    likely = usual if usual in line else max(tried, key=line.count)
    return next((delimiter for delimiter in tried if fits(delimiter)), likely)


def _rows(text: str, name: str, delimiter: str) -> list[list[str]]:
    if delimiter == "\t":
        lines = _parsed(text, name, delimiter, quoted=False)
        if len({len(cells) for cells in lines if cells}) == 1:  # no cell contains a line break or a tab
            return _unquoted(lines)
    return _parsed(text, name, delimiter, quoted=True)


def _parsed(text: str, name: str, delimiter: str, *, quoted: bool) -> list[list[str]]:
    # The csv module's limit of 131,072 characters per cell is global; it is lifted for this call only.
    limit = csv.field_size_limit(2**31 - 1)
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise InputError(f"{name} is malformed at line {reader.line_num} ({error}); check its quotes.") from None
    finally:
        csv.field_size_limit(limit)


def _unquoted(lines: list[list[str]]) -> list[list[str]]:
    """The cells without quotes around them, if every cell that begins with one is quoted as spreadsheets do it."""
    begin = [cell for cells in lines for cell in cells if cell.startswith('"')]
    if not all(len(cell) > 1 and cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "") for cell in begin):
        return lines
    return [[c[1:-1].replace('""', '"') if c.startswith('"') else c for c in cells] for cells in lines]
