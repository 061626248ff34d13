"""Local files as columns: what they may be called, how they are packed and encoded."""

import codecs
import gzip
import logging
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from episodes.columns import Columns
from episodes.delimited import delimited_columns
from episodes.errors import InputError, first_line, listing
from episodes.json_rows import json_columns
from episodes.parquet import parquet_columns
from episodes.paths import is_there

logger = logging.getLogger(__name__)

KINDS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings of the files that can be read; each of them may be followed by ".gz"."""

OTHER_NAMES = {".ndjson": ".jsonl", ".jl": ".jsonl", ".jsonlines": ".jsonl", ".tab": ".tsv"}
"""Endings that mean the same as one of `KINDS`."""

MAX_BYTES = 2**30
"""Largest size of a file in bytes."""

MAX_UNPACKED = 2**28
"""Largest size in bytes of a .gz file after it is unpacked: a few kilobytes can stand for gigabytes."""

MAX_CELLS = 2 * 10**7
"""Largest number of separators, line ends and brackets of a text file, each of which takes some 50 bytes of memory."""

_SEPARATORS = {".csv": ",", ".tsv": "\t"}

# A Hub id may contain dots ("org/data-v1.1"), so not every ending makes a name a file name. These do.
_FILE_ENDINGS = {*KINDS, *OTHER_NAMES, ".txt", ".xls", ".xlsx", ".arrow", ".pkl", ".gz", ".zip"}

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: its mark begins with that of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class FileFormat:
    """What a file does not say of itself.

    Args:
        delimiter: separator of the cells of a .csv or .tsv file; None: a comma or a tab, or what separates the columns
            in its first line.
        encoding: encoding of a text file, such as "cp1252"; None: UTF-8, or what the byte order mark at its
            beginning says.
        no_header: whether the first line of a .csv or .tsv file has data; columns are then called "1", "2", …
    """

    delimiter: str | None = None
    encoding: str | None = None
    no_header: bool = False

    def __post_init__(self) -> None:
        named = {"tab": "\t", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        object.__setattr__(self, "delimiter", named)
        if named is not None and (len(named) != 1 or named in '\n\r"'):
            raise InputError(f"delimiter={self.delimiter!r} must be one character, or 'tab'.")
        if self.encoding is not None:
            try:
                bytes(4).decode(self.encoding)
            except UnicodeError:  # a codec that four zeros are no text of
                return
            except (LookupError, ValueError):
                raise InputError(f"encoding={self.encoding!r} is not known; use one such as utf-8 or cp1252.") from None


PLAIN = FileFormat()
"""Nothing is known of a file but its name and content."""


def is_file_name(name: str) -> bool:
    """Whether the ending of a name is that of a file."""
    return Path(name).suffix.lower() in _FILE_ENDINGS


def read_columns(path: Path, wanted: Collection[str], form: FileFormat = PLAIN, *, name: str | None = None) -> Columns:
    """The columns of a file, which has the given name in messages (None: its path).

    InputError if it does not exist, is of an unknown kind, or cannot be read.
    """
    name, kind = name or str(path), _kind(path)
    if not is_there(path):
        raise InputError(f"There is no file {name}.")
    if path.is_dir():
        raise InputError(f"{name} is a folder; name one of its files.")
    if kind is None:
        raise InputError(f"{name} is of an unknown kind; save it as one of: {listing(KINDS)}.")
    _require_suitable(form, kind, name)
    data = _read(path, name)
    if kind == ".parquet":
        return parquet_columns(data, name, wanted)
    text = decoded(data, name, form.encoding)
    if not text.strip():
        raise InputError(f"{name} is empty; it needs rows with {' and '.join(map(repr, wanted))}.")
    if (n_cells := sum(map(text.count, "\n\r,;\t|" if kind in _SEPARATORS else ",{["))) > MAX_CELLS:
        raise InputError(f"{name} has about {n_cells:,} cells; at most {MAX_CELLS:,} are read: divide it.")
    if kind in _SEPARATORS:
        separator, guess = form.delimiter or _SEPARATORS[kind], form.delimiter is None
        cells = delimited_columns(text, name, wanted, separator, guess=guess, no_header=form.no_header)
    else:
        cells = json_columns(text, name)
    if name == str(path):  # a file of the user
        number = len(next(iter(cells.values()), ()))
        logger.info("%s: %d row%s", name, number, "s" * (number != 1))
    return Columns(name, cells, cells)


def _kind(path: Path) -> str | None:
    """The ending in `KINDS` that a name has or means; None for other names."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = OTHER_NAMES.get(suffixes[-1], suffixes[-1]) if suffixes else None
    return kind if kind in KINDS else None


def _require_suitable(form: FileFormat, kind: str, name: str) -> None:
    if kind not in _SEPARATORS and (form.delimiter is not None or form.no_header):
        given = "no_header=True" if form.no_header else f"delimiter={form.delimiter!r}"
        raise InputError(f"{given} is for .csv and .tsv files, and {name} is none; leave it out.")
    if kind == ".parquet" and form.encoding is not None:
        raise InputError(f"encoding={form.encoding!r} is for text files, and {name} is none; leave it out.")


def _read(path: Path, name: str) -> bytes:
    try:
        if path.suffix.lower() != ".gz":
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; divide it.")
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} cannot be read ({first_line(error)}).") from error
    if len(data) > MAX_UNPACKED:
        raise InputError(f"{name} unpacks to more than {MAX_UNPACKED // 2**20} MiB; unpack it yourself, or divide it.")
    return data


def decoded(data: bytes, name: str, encoding: str | None) -> str:
    """The text of a source, in the given encoding; None: UTF-8, or what the byte order mark at its beginning says.

    InputError, with the name of the source, if it is text in another encoding.
    """
    mark = next((codec for start, codec in _MARKS.items() if data.startswith(start)), None)
    begin = data[:1000]
    if not encoding and not mark and _share_of_controls(begin) > 1 / 5:
        raise InputError(f"{name} seems to be UTF-16 text without a mark; name its encoding, such as 'utf-16-le'.")
    try:
        text = data.decode(encoding or mark or "utf-8")
    except UnicodeError as error:
        line = data[: getattr(error, "start", 0)].count(b"\n") + 1  # not every codec says where
        if encoding or mark:
            raise InputError(f"{name} is not text in {encoding or mark} (line {line}); name its encoding.") from None
        advice = "save it again as UTF-8, or name its encoding, such as encoding='cp1252' for files of older Windows"
        raise InputError(f"{name} is not UTF-8 text (line {line}); {advice}.") from None
    return text.removeprefix("\ufeff")


def _share_of_controls(data: bytes) -> float:
    """The share of bytes that no text in UTF-8 has: control characters other than tabs and line ends."""
    return sum(byte < 32 and byte not in b"\t\n\r\f\v\x1b" for byte in data) / max(len(data), 1)
