"""Parquet files: plain values, whatever the file says of its columns."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, Image
from running import refused

from episodes import Corpus


def parquet(folder, columns, features=None):
    """A file with these columns, which says of itself that they are of other types."""
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


BROKEN = pyarrow.Array.from_buffers(
    pyarrow.string(), 2, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pyarrow.py_buffer(b"\xff\xfeok")]
)
LABELS: list[Any] = ["a", "b"]
BAD_PARQUETS: dict[str, tuple[dict[str, Any], Any, list[str]]] = {
    "broken UTF-8": ({"text": BROKEN, "label": LABELS}, None, ["column 'text' cannot be read", "as text"]),
    "decimals": ({"text": ["x", "y"], "label": [Decimal("1.0"), Decimal("2.0")]}, None, ["row 1", "Decimal"]),
    "dates": ({"text": ["x", "y"], "label": [date(2020, 1, 1), date(2020, 1, 2)]}, None, ["row 1", "date"]),
    "nested texts": ({"text": [{"a": 1}, {"a": 2}], "label": LABELS}, None, ["'text'", "struct<a: int64>"]),
    "lists": ({"text": [["x"], ["y"]], "label": LABELS}, None, ["'text'", "list<element: string>"]),
    "an id without a name": (
        {"text": ["x", "y"], "label": [0, 2]},
        {"label": {"names": ["a", "b"], "_type": "ClassLabel"}},
        ["the label 2 in 'label' has no class name", "a, b"],
    ),
    "an image": (
        {"text": [{"path": "/etc/hostname", "bytes": None}] * 2, "label": LABELS},
        {"text": {"_type": "Image"}},
        ["'text'", "struct<"],
    ),
}


@pytest.mark.parametrize("kind", BAD_PARQUETS)
def test_unusual_columns_of_a_parquet_file_are_refused(tmp_path, kind):
    columns, features, facts = BAD_PARQUETS[kind]
    with refused(*facts):
        Corpus.load(parquet(tmp_path, columns, features))


@pytest.mark.parametrize("feature", ["Image", "Audio"])
def test_a_column_that_is_declared_as_images_is_read_as_its_strings(tmp_path, feature):
    columns = {"text": ["/etc/hostname", "http://127.0.0.1/x"], "label": LABELS}
    path = parquet(tmp_path, columns, {"text": {"_type": feature}})
    assert Corpus.load(path).texts == tuple(columns["text"])


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": []}}}', b"\xff"])
def test_broken_metadata_of_a_parquet_file_are_ignored(tmp_path, metadata):
    table = pyarrow.table({"text": ["x", "y"], "label": LABELS}).replace_schema_metadata({b"huggingface": metadata})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert Corpus.load(tmp_path / "a.parquet").class_names == ("a", "b")


def test_a_column_of_images_in_a_data_set_is_refused():
    dataset = Dataset.from_dict({"text": ["/etc/hostname"] * 2, "label": LABELS}).cast_column("text", Image())
    with refused("text_column='text'", "type Image"):
        Corpus.load(dataset)


@pytest.mark.parametrize("n_bytes", [4000, 200_000])
def test_a_small_file_that_stands_for_gigabytes_is_refused(tmp_path, n_bytes):
    path, n_rows = tmp_path / "a.parquet", 300_000
    rows = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * n_rows), ["x" * n_bytes])
    pyarrow.parquet.write_table(pyarrow.table({"text": rows, "label": [0] * n_rows}), path)
    assert path.stat().st_size < 1_000_000
    with refused(path, "300,000 rows", "bytes when it is unpacked", "268,435,456 bytes are read"):
        Corpus.load(path)
