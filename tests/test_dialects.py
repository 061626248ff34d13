"""Text files in the dialect, the encoding and the packing that they come in."""

import gzip
import json
import logging
from typing import Any

import pytest
from running import refused

from episodes import Corpus, files
from episodes.files import FileFormat
from episodes.reading import read_table

PAIRS = [("the bus is late", "travel"), ("my card was refused", "bank"), ("where is my train", "travel")]
CONTENTS = {
    "a.csv": "text,label\n" + "".join(f"{text},{label}\n" for text, label in PAIRS),
    "a.TSV": "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in PAIRS),
    "a.jsonl": "\n".join(json.dumps({"text": text, "label": label}) for text, label in PAIRS),
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


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
    path = write(tmp_path, "b.csv", "1;hello you\n2;bye\n")  # the number of the column says how many there are
    assert read_table(path, "2", None, form=FileFormat(no_header=True)).texts == ["hello you", "bye"]


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
    assert len(Corpus.load(write(tmp_path, f"a{ending}", CONTENTS["a.jsonl"]))) == 3


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


def test_the_separator_that_excel_writes_down_is_used(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        content = end.join(["sep=;", "text;label", "one, two;a", "three;b"])
        assert Corpus.load(write(tmp_path, "a.csv", content)).texts == ("one, two", "three")
    assert Corpus.load(write(tmp_path, "a.csv", "text;label\rone;a\rtwo;b\r")).texts == ("one", "two")


def test_utf_16_without_a_mark_is_named_whatever_its_letters(tmp_path):
    rows = "text,label\n" + "привет всем,a\nпока всем,b\n" * 3
    (tmp_path / "a.csv").write_bytes(rows.encode("utf-16-le"))
    with refused("UTF-16", "utf-16-le"):
        Corpus.load(tmp_path / "a.csv")


def test_labels_that_differ_in_white_space_are_one_label_with_a_warning(tmp_path, caplog):
    corpus = Corpus.load(write(tmp_path, "a.csv", "text,label\none,refund\ntwo, refund\nthree,delivery\n"))
    assert corpus.class_names == ("delivery", "refund")
    assert "white space around labels is ignored, as in ' refund'" in caplog.text


def test_an_integer_and_its_digits_are_one_label(tmp_path, caplog):
    rows = [{"text": f"text {label!r}", "label": label} for label in (1, "1", 2)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert Corpus.load(tmp_path / "a.json").class_names == ("1", "2") and "white space" not in caplog.text


def test_columns_that_nobody_asked_for_are_reported_without_a_header(tmp_path, caplog):
    read_table(write(tmp_path, "a.csv", "hello, you\nbye, all\n"), "1", None, form=FileFormat(no_header=True))
    assert "1 columns are not used; name the separator" in caplog.text


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"a,b\n" * 60), ("a.json", b"{}," * 60)])
def test_files_with_too_many_cells_are_refused(tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(files, "MAX_CELLS", 100)
    monkeypatch.setattr(files, "MAX_UNPACKED", 1000)
    (tmp_path / name).write_bytes(content)
    with refused(name, "about 120 cells", "at most 100"):
        Corpus.load(tmp_path / name)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content * 100))
    with refused(f"{name}.gz", "unpacks to more than", "unpack it yourself"):
        Corpus.load(tmp_path / f"{name}.gz")


def test_names_that_no_file_can_have_are_refused(tmp_path, monkeypatch):
    for name in ("x" * 5000 + ".csv", "a\0b.csv", "~nobody-of-this-name/a.csv"):
        with refused("no file"):
            Corpus.load(name)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "~a.csv", "text,label\none,a\ntwo,b\n")
    assert len(Corpus.load("~a.csv")) == 2
    with refused("encoding='a\\x00b'"):
        Corpus.load("~a.csv", encoding="a\0b")


def test_columns_of_other_names_are_listed_with_the_separator_of_their_file(tmp_path):
    for rows in ('"one, two";a\n"three, four";b\n', "one, two;a\nthree;b\n"):
        with refused("its columns are: Message, Category"):
            Corpus.load(write(tmp_path, "a.csv", f"Message;Category\n{rows}"))
