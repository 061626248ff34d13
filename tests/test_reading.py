"""What a corpus takes from each kind of source, and what it says about sources that it cannot use."""

import json
import logging

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from running import process, refused

from episodes import Corpus


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(*pairs):
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in pairs)


# What comes out of each source -----------------------------------------------------------------------------


PAIRS = [("the bus is late", "travel"), ("my card was refused", "bank"), ("where is my train", "travel")]


def as_csv(folder):
    return write(folder, "a.csv", "text,label\n" + "".join(f"{t},{c}\n" for t, c in PAIRS))


def as_tsv(folder):
    return write(folder, "a.TSV", "label\ttext\n" + "".join(f"{c}\t{t}\n" for t, c in PAIRS))


def as_jsonl(folder):
    return write(folder, "a.jsonl", json_lines(*PAIRS) + "\n\n")


def as_json(folder):
    return write(folder, "a.json", json.dumps([{"text": t, "label": c, "more": 1} for t, c in PAIRS], indent=2))


def as_parquet(folder):
    table = as_dataset(folder).data.table
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def as_dataset(folder):
    return Dataset.from_dict({"text": [t for t, _ in PAIRS], "label": [c for _, c in PAIRS]})


@pytest.mark.parametrize("source", [as_csv, as_tsv, as_jsonl, as_json, as_parquet, as_dataset])
def test_every_kind_of_source_gives_the_same_corpus(source, tmp_path):
    corpus = Corpus.load(source(tmp_path))
    assert corpus.texts == ("the bus is late", "my card was refused", "where is my train")
    assert corpus.class_names == ("bank", "travel")
    assert corpus.labels.tolist() == [1, 0, 1]
    assert len(corpus) == 3
    assert corpus.n_classes == 2


def test_reading_leaves_nothing_behind_and_sees_an_edited_file(tmp_path):
    path = as_csv(tmp_path)
    before = Corpus.load(str(path))
    path.write_text(path.read_text() + "a new one,bank\n")
    assert len(Corpus.load(str(path))) == len(before) + 1
    assert list(tmp_path.iterdir()) == [path]


def test_columns_are_named_by_the_user(tmp_path):
    path = write(tmp_path, "a.csv", "id,body,desk\n1,hello,b\n2,bye,a\n")
    corpus = Corpus.load(path, text_column="body", label_column="desk")
    assert corpus.texts == ("hello", "bye")
    assert corpus.class_names == ("a", "b")


def test_csv_cells_stay_what_they_are(tmp_path):
    texts = ["123", "1.50", "NA", "None", "null", "nan", "True", "2020-01-01", " led by a space", 'a, "b"\nc']
    rows = ['"' + text.replace('"', '""') + f'",{i % 2}' for i, text in enumerate(texts)]
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbf" + "\r\n".join(["text,label", *rows]).encode())
    corpus = Corpus.load(path)
    assert corpus.texts == tuple(texts)
    assert corpus.class_names == ("0", "1")


def test_json_text_that_looks_like_a_date_stays_text(tmp_path):
    path = write(tmp_path, "a.jsonl", json_lines(("2020-01-01", 1), ("2020-01-02T00:00:00", "x")))
    assert Corpus.load(path).texts == ("2020-01-01", "2020-01-02T00:00:00")


UNUSUAL = [
    "👩‍👩‍👧‍👦 family 🇺🇳",
    "مرحبا بالعالم \u202bשלום\u202c",
    "bell \x07, nul \x00, escape \x1b[31m, line\u2028separator, next\x85line",
    "word " * 100_000,
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_unusual_texts_pass_through_unharmed(suffix, tmp_path):
    pairs = [(text, i % 2) for i, text in enumerate(UNUSUAL)]
    if suffix == ".csv":
        content = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in pairs)
    elif suffix == ".json":
        content = json.dumps([{"text": text, "label": label} for text, label in pairs], ensure_ascii=False)
    else:
        content = json_lines(*pairs)
    corpus = Corpus.load(write(tmp_path, "a" + suffix, content))
    assert corpus.texts == tuple(UNUSUAL)


def test_integers_become_class_names(tmp_path):
    corpus = Corpus.load(write(tmp_path, "a.jsonl", json_lines(("x", 3), ("y", "10"), ("z", 3))))
    assert corpus.class_names == ("10", "3")
    assert corpus.labels.tolist() == [1, 0, 1]


def labelled_dataset(names, labels):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = [f"text {i}" for i in range(len(labels))]
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_class_label_order_is_kept_and_classes_without_texts_go(caplog, tmp_path):
    dataset = labelled_dataset(["world", "never", "sport"], [2, 0, 2])
    with caplog.at_level(logging.INFO, logger="episodes"):
        corpus = Corpus.load(dataset)
    assert corpus.class_names == ("world", "sport")
    assert corpus.labels.tolist() == [1, 0, 1]
    assert caplog.messages == ["The data set: dropped classes without texts: 'never'"]
    dataset.to_parquet(tmp_path / "a.parquet")
    assert Corpus.load(tmp_path / "a.parquet").class_names == ("world", "sport")


def test_dataset_dict_takes_a_split():
    splits = DatasetDict(fit=labelled_dataset(["a", "b"], [0, 1]), held_out=labelled_dataset(["a", "b"], [1, 0]))
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


def test_conflicts_can_be_refused(tmp_path):
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
    "column.csv": ("body;label\nhello;a\n", ["text_column='text'", "label_column='label'", "columns are: body;label"]),
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
        [
            "texts",
            "row 1 is empty",
            "row 2 is missing",
            "row 3 is missing",
            "row 4 is missing",
            "row 5",
            "list",
            "2 more",
        ],
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


def test_sources_that_do_not_exist(tmp_path):
    for source, facts in {
        "few.csv": ["no file few.csv"],
        "data/few/shots": ["no file data/few/shots"],
        tmp_path: [tmp_path, "is a folder"],
        "my tickets": ["'my tickets'", "'owner/name'"],
    }.items():
        with refused(*facts):
            Corpus.load(source)
    with refused("dict", "'everyday', 'varied', 'lengthy'", ".csv, .tsv, .json, .jsonl, .parquet", "Hub id"):
        Corpus.load({"text": ["a"], "label": [1]})  # pyright: ignore[reportArgumentType]


def test_subset_and_split_belong_to_the_hub(tmp_path):
    path = as_csv(tmp_path)
    with refused("dataset_split='test'", "Hub id", path):
        Corpus.load(path, dataset_split="test")
    with refused("dataset_split='test'", "Hub id"):
        Corpus.load(as_dataset(tmp_path), dataset_split="test")
    with refused("subset='en'", "Hub id"):
        Corpus.load(as_dataset(tmp_path), subset="en")


def test_unusable_datasets():
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


@pytest.mark.slow
def test_in_offline_mode_only_the_cache_is_searched(tmp_path):
    code = "from episodes import Corpus; Corpus.load('owner/name')"
    message = process(code=code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)).stderr.splitlines()[-1]
    assert "InputError" in message and "owner/name" in message and "HF_HUB_OFFLINE is set" in message
