"""What a corpus takes from each kind of source, and the messages about sources that it cannot use."""

import gzip
import json
import logging
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from running import refused
from tiny import UNUSUAL_TEXTS

from episodes import Corpus


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(*pairs):
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in pairs)


# Kinds of sources ------------------------------------------------------------------------------------------


PAIRS = [("the bus is late", "travel"), ("my card was refused", "bank"), ("where is my train", "travel")]
DATASET = Dataset.from_dict({"text": [text for text, _ in PAIRS], "label": [label for _, label in PAIRS]})
CONTENTS = {
    "a.csv": "text,label\n" + "".join(f"{text},{label}\n" for text, label in PAIRS),
    "a.TSV": "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in PAIRS),
    "a.jsonl": json_lines(*PAIRS) + "\n\n",
    "a.json": json.dumps([{"text": text, "label": label, "more": 1} for text, label in PAIRS], indent=2),
}


@pytest.mark.parametrize("kind", [*CONTENTS, "a.parquet", "data set"])
def test_every_kind_of_source_gives_the_same_corpus(kind, tmp_path):
    source: Any = DATASET if kind == "data set" else tmp_path / kind
    if kind in CONTENTS:
        write(tmp_path, kind, CONTENTS[kind])
    elif kind == "a.parquet":
        DATASET.to_parquet(source)
    corpus = Corpus.load(source)
    assert corpus.texts == tuple(text for text, _ in PAIRS)
    assert corpus.class_names == ("bank", "travel")
    assert corpus.labels.tolist() == [1, 0, 1]
    assert (len(corpus), corpus.n_classes) == (3, 2)


def test_reading_leaves_nothing_behind_and_sees_an_edited_file(tmp_path):
    path = write(tmp_path, "a.csv", CONTENTS["a.csv"])
    assert len(Corpus.load(str(path))) == 3
    path.write_text(CONTENTS["a.csv"] + "a new one,bank\n")
    assert len(Corpus.load(str(path))) == 4
    assert list(tmp_path.iterdir()) == [path]


def test_columns_are_named_by_the_user(tmp_path):
    path = write(tmp_path, "a.csv", "id,body,desk\n1,hello,b\n2,bye,a\n")
    corpus = Corpus.load(path, text_column="body", label_column="desk")
    assert (corpus.texts, corpus.class_names) == (("hello", "bye"), ("a", "b"))


def test_cells_of_a_csv_file_stay_the_texts_that_they_are(tmp_path):
    texts = ["123", "1.50", "NA", "None", "null", "nan", "True", "2020-01-01", " led by a space", 'a, "b"\nc']
    rows = ['"' + text.replace('"', '""') + f'",{i % 2}' for i, text in enumerate(texts)]
    corpus = Corpus.load(write(tmp_path, "a.csv", b"\xef\xbb\xbf" + "\r\n".join(["text,label", *rows]).encode()))
    assert (corpus.texts, corpus.class_names) == (tuple(texts), ("0", "1"))


def test_json_text_that_looks_like_a_date_stays_text(tmp_path):
    path = write(tmp_path, "a.jsonl", json_lines(("2020-01-01", 1), ("2020-01-02T00:00:00", "x")))
    assert Corpus.load(path).texts == ("2020-01-01", "2020-01-02T00:00:00")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_unusual_texts_are_read_unchanged(suffix, tmp_path):
    pairs = [(text, i % 2) for i, text in enumerate(UNUSUAL_TEXTS)]
    contents = {
        ".csv": "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in pairs),
        ".json": json.dumps([{"text": text, "label": label} for text, label in pairs], ensure_ascii=False),
        ".jsonl": json_lines(*pairs),
    }
    assert Corpus.load(write(tmp_path, "a" + suffix, contents[suffix])).texts == tuple(UNUSUAL_TEXTS)


def test_integers_become_class_names(tmp_path):
    corpus = Corpus.load(write(tmp_path, "a.jsonl", json_lines(("x", 3), ("y", "10"), ("z", 3))))
    assert corpus.class_names == ("10", "3")
    assert corpus.labels.tolist() == [1, 0, 1]


def labelled_dataset(names, labels):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = [f"text {i}" for i in range(len(labels))]
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_the_order_of_class_labels_is_kept_and_classes_without_texts_are_dropped(caplog, tmp_path):
    dataset = labelled_dataset(["world", "never", "sport"], [2, 0, 2])
    with caplog.at_level(logging.INFO, logger="episodes"):
        corpus = Corpus.load(dataset)
    assert corpus.class_names == ("world", "sport")
    assert corpus.labels.tolist() == [1, 0, 1]
    assert caplog.messages == ["The data set: dropped classes without texts: 'never'"]
    dataset.to_parquet(tmp_path / "a.parquet")
    assert Corpus.load(tmp_path / "a.parquet").class_names == ("world", "sport")


def test_of_a_dataset_dict_one_split_is_read():
    labels = {"fit": [0, 1], "held_out": [1, 0]}
    splits = DatasetDict({name: labelled_dataset(["a", "b"], some) for name, some in labels.items()})
    assert Corpus.load(splits, dataset_split="held_out").labels.tolist() == [1, 0]
    with refused("dataset_split=None", "fit, held_out"):
        Corpus.load(splits)


# Copies and conflicts --------------------------------------------------------------------------------------


COPIES = [("a", "x"), (" a\n", "x"), ("b", "y"), ("c", "x"), ("c", "y"), ("c", "x"), ("d", "y")]


def test_copies_are_dropped_and_counted(caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="episodes"):
        corpus = Corpus.load(write(tmp_path, "a.jsonl", json_lines(*COPIES)))
    assert corpus.texts == ("a", "b", "d")
    assert "dropped 4 of 7 rows" in caplog.text


def test_texts_with_two_labels_are_refused_on_request(tmp_path):
    path = write(tmp_path, "a.jsonl", json_lines(*COPIES))
    with refused(path, "two labels", "'c'", "'x' and 'y'"):
        Corpus.load(path, conflicts="refuse")
    with refused("conflicts='keep'", "drop, refuse"):
        Corpus.load(path, conflicts="keep")  # pyright: ignore[reportArgumentType]


# What cannot be used ---------------------------------------------------------------------------------------


BAD_FILES = {
    "empty.csv": (b"", ["is empty", "'text' and 'label'"]),
    "blank.jsonl": (b"\xef\xbb\xbf \n", ["is empty", "'text' and 'label'"]),
    "header.csv": ("text,label\n", ["header (text, label)", "no rows"]),
    "list.json": ("[]", ["empty list"]),
    "latin1.csv": ("text,label\nth\xe9,a\n".encode("latin-1"), ["not UTF-8", "line 2"]),
    "column.csv": ("body.label\nhello.a\n", ["text_column='text'", "label_column='label'", "columns are: body.label"]),
    "column.jsonl": (json.dumps({"text": "hello", "topic": "a"}), ["label_column='label'", "columns are: text, topic"]),
    "comma.csv": ("text,label\nhello,a\nwell, hello,a\n", ["row 2 has 3 cells", "2", '"quotes"']),
    "quote.csv": ('text,label\n"hello,a\n', ["malformed at line 2", "quotes"]),
    "cut.jsonl": (json_lines(("hello", "a"), ("bye", "b"))[:-5], ["not valid JSON at line 2", "Expecting value"]),
    "cut.json": ('[{"text": "hello", "label": "a"},\n {"text"', ["not valid JSON at line 2", "Expecting ':'"]),
    "rows.jsonl": ('{"text": "a", "label": "b"}\n["a", "b"]', ["not objects", '{"text": …}', ": 2."]),
    "not.parquet": (b"hello", ["parquet"]),
    "cells.jsonl": (
        '{"text": "", "label": 1}\n{"text": null, "label": 1}\n{"text": NaN, "label": 2}\n{"label": 2}\n'
        '{"text": ["x"], "label": 1}\n{"text": "\\ud83d", "label": 1}\n{"text": " \\t", "label": 1}',
        ["texts", "row 1 is empty", *(f"row {i} is missing" for i in (2, 3, 4)), "row 5", "list", "2 more"],
    ),
    "half.jsonl": ('{"text": "\\ud83d", "label": 1}', ["texts", "row 1 is not valid Unicode"]),
    "cell.csv": ('text,label\nhello,a\n"",b\n', ["texts", "row 2 is empty"]),
    "labels.jsonl": (
        '{"text": "a", "label": " "}\n{"text": "b", "label": null}\n{"text": "c", "label": 1.5}',
        ["labels", "row 1 is empty", "row 2 is missing", "row 3", "float"],
    ),
    "twice.csv": ("text,label,text\na,x,c\n", ["same name", "'text'"]),
    "deep.json": ("[" * 100_000, ["JSON", "line 1", "recursion"]),
    "one.csv": ("text,label\na,x\nb,x\n", ["at least 2 classes", "'x'"]),
    "table.xlsx": (b"PK", [".csv, .tsv, .json, .jsonl, .parquet"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_unusable_files_are_refused(name, tmp_path):
    content, facts = BAD_FILES[name]
    path = write(tmp_path, name, content)
    with refused(path, *facts):
        Corpus.load(path)


def test_sources_that_do_not_exist_are_refused(tmp_path):
    for source, fact in {
        "few.csv": "no file few.csv",
        "data/few/shots": "no file data/few/shots",
        str(tmp_path): f"{tmp_path} is a folder",
        "my tickets": "'my tickets' is neither an existing file nor a Hub id such as 'owner/name'",
    }.items():
        with refused(fact):
            Corpus.load(source)
    with refused("dict", "'everyday', 'varied', 'lengthy'", ".csv, .tsv, .json, .jsonl, .parquet", "Hub id"):
        Corpus.load({"text": ["a"], "label": [1]})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("option", [{"dataset_split": "test"}, {"subset": "en"}], ids=str)
def test_the_subset_and_the_split_of_a_source_outside_the_hub_are_refused(option, tmp_path):
    ((name, value),) = option.items()
    for source in (write(tmp_path, "a.csv", CONTENTS["a.csv"]), DATASET):
        with refused(f"{name}={value!r}", "Hub id"):
            Corpus.load(source, **option)


def test_unusable_data_sets_are_refused():
    with refused("text_column='words'", "columns are: text, label"):
        Corpus.load(labelled_dataset(["a", "b"], [0, 1]), text_column="words")
    with refused("no rows"):
        Corpus.load(labelled_dataset(["a", "b"], []))
    with refused("labels", "row 2 is missing"):
        Corpus.load(labelled_dataset(["a", "b"], [0, -1, 1]))
    with refused("texts", "row 1", "int", "row 2", "int"):
        Corpus.load(Dataset.from_dict({"text": [1, 2], "label": ["a", "b"]}))


def test_without_a_network_the_hub_is_given_up_at_once(monkeypatch):
    # Nothing listens on the discard port, as on a machine without a network.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with refused("owner/name", "ConnectError", "'everyday'", "HF_HUB_OFFLINE=1"):
        Corpus.load("owner/name")


def test_in_offline_mode_only_the_cache_is_searched():
    with refused("owner/name", "HF_HUB_OFFLINE is set"):
        Corpus.load("owner/name")


# Dialects, encodings and names ------------------------------------------------------------------------------


def test_quotation_marks_in_tab_separated_lines_swallow_no_rows(tmp_path, caplog):
    texts = ['"never again', 'a 6" pipe', 'he said "no"', "plain", '" and', "last"]
    content = "text\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    with caplog.at_level(logging.INFO, logger="episodes"):
        corpus = Corpus.load(write(tmp_path, "a.tsv", content))
    assert corpus.texts == tuple(texts)
    assert "a.tsv: 6 rows" in caplog.text


def test_quotes_that_a_spreadsheet_wrote_around_cells_are_removed(tmp_path, caplog):
    rows = 'text\tlabel\n"he said ""no"""\tx\nplain\ty\n'
    assert Corpus.load(write(tmp_path, "a.tsv", rows)).texts == ('he said "no"', "plain")
    assert "line breaks" not in caplog.text
    rows += '"two\nlines"\tx\n"a\ttab"\ty\n'
    assert Corpus.load(write(tmp_path, "b.tsv", rows)).texts[2:] == ("two\nlines", "a\ttab")
    assert "cells of 1 of 4 rows contain line breaks (rows 3)" in caplog.text


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_separator_of_the_first_line_is_used(tmp_path, delimiter):
    content = delimiter.join(["text", "label"]) + "\n" + f"one, two{delimiter}a\nthree{delimiter}b\n"
    assert Corpus.load(write(tmp_path, "a.csv", content)).texts == ("one, two", "three")
    (tmp_path / "b.csv").write_text(content.replace("text", "body,text"))
    options: dict[str, Any] = {"text_column": "body,text", "delimiter": delimiter}
    assert Corpus.load(tmp_path / "b.csv", **options).texts == ("one, two", "three")


def test_a_file_without_a_header(tmp_path):
    path = write(tmp_path, "a.csv", "hello,a\nbye,b\n")
    assert Corpus.load(path, no_header=True).texts == ("hello", "bye")
    corpus = Corpus.load(path, text_column="2", label_column="1", no_header=True)
    assert (corpus.texts, corpus.class_names) == (("a", "b"), ("bye", "hello"))
    with refused("columns are: 1, 2"):
        Corpus.load(path, text_column="3", no_header=True)


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-8-sig"])
def test_the_mark_at_the_begin_of_a_file_names_its_encoding(tmp_path, codec):
    content = "text,label\nthé,a\nкофе,b\n".encode(codec)
    assert Corpus.load(write(tmp_path, "a.csv", content)).texts == ("thé", "кофе")


def test_an_encoding_can_be_named(tmp_path):
    content = "text,label\nthé,a\n€ 5,b\n"
    for codec in ("cp1252", "utf-16-le"):
        path = write(tmp_path, f"{codec}.csv", content.encode(codec))
        with refused(path, codec):
            Corpus.load(path)
        assert Corpus.load(path, encoding=codec).texts == ("thé", "€ 5")
    with refused("not text in ascii", "line 2"):
        Corpus.load(tmp_path / "cp1252.csv", encoding="ascii")


@pytest.mark.parametrize("ending", [".ndjson", ".jl", ".jsonlines", ".JSONL"])
def test_files_with_lines_of_json_have_several_endings(tmp_path, ending):
    assert len(Corpus.load(write(tmp_path, f"a{ending}", json_lines(*PAIRS)))) == 3


@pytest.mark.parametrize("kind", ["a.csv", "a.TSV", "a.jsonl"])
def test_packed_files_are_unpacked(tmp_path, kind):
    assert len(Corpus.load(write(tmp_path, f"{kind}.gz", gzip.compress(CONTENTS[kind].encode())))) == 3
    with refused("cannot be read"):
        Corpus.load(write(tmp_path, f"cut {kind}.gz", gzip.compress(CONTENTS[kind].encode())[:-9]))


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "a.csv", CONTENTS["a.csv"])
    assert len(Corpus.load("~/a.csv")) == 3


BAD_FORMATS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"delimiter": "ab"}, "a.csv", ["delimiter='ab'", "one character"]),
    ({"delimiter": ";"}, "a.jsonl", ["delimiter=';'", "a.jsonl"]),
    ({"no_header": True}, "a.json", ["no_header=True", "a.json"]),
    ({"encoding": "klingon"}, "a.csv", ["encoding='klingon'", "cp1252"]),
    ({"encoding": "hex"}, "a.csv", ["encoding='hex'"]),
    ({"encoding": "utf-8"}, "a.parquet", ["encoding='utf-8'", "a.parquet"]),
]


@pytest.mark.parametrize(("options", "name", "facts"), BAD_FORMATS, ids=str)
def test_impossible_formats_are_refused(tmp_path, options, name, facts):
    path = write(tmp_path, name, CONTENTS.get(name, "x"))
    with refused(*facts):
        Corpus.load(path, **options)


# Parquet ----------------------------------------------------------------------------------------------------


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
    "nested texts": ({"text": [{"a": 1}, {"a": 2}], "label": LABELS}, None, ["row 1", "dict"]),
    "lists": ({"text": [["x"], ["y"]], "label": LABELS}, None, ["row 1", "list"]),
    "an id without a name": (
        {"text": ["x", "y"], "label": [0, 2]},
        {"label": {"names": ["a", "b"], "_type": "ClassLabel"}},
        ["the label 2 in 'label' has no class name", "a, b"],
    ),
    "an image": (
        {"text": [{"path": "/etc/hostname", "bytes": None}] * 2, "label": LABELS},
        {"text": {"_type": "Image"}},
        ["row 1", "dict"],
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
