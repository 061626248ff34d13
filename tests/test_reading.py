"""What a corpus takes from each kind of source, and the messages about sources that it cannot use."""

import json
import logging
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
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
