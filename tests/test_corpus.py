"""What a corpus takes from each kind of source, and what it says about sources that it cannot use."""

import json
import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from running import refused

from episodes import Corpus, Episode


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
    assert Corpus.load(splits, split="held_out").labels.tolist() == [1, 0]
    with refused("A DatasetDict needs split, one of: fit, held_out; it is None."):
        Corpus.load(splits)


# Copies and conflicts --------------------------------------------------------------------------------------


COPIES = [("a", "x"), (" a\n", "x"), ("b", "y"), ("c", "x"), ("c", "y"), ("c", "x"), ("d", "y")]


def test_copies_are_dropped_and_counted(caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="episodes"):
        corpus = Corpus.load(write(tmp_path, "a.jsonl", json_lines(*COPIES)))
    assert corpus.texts == ("a", "b", "d")
    path = tmp_path / "a.jsonl"
    assert caplog.messages == [
        f"{path}: dropped 4 of 7 rows: copies, and all rows of the 1 texts that stand under two labels"
    ]


def test_conflicts_can_be_refused(tmp_path):
    path = write(tmp_path, "a.jsonl", json_lines(*COPIES))
    with refused(f"{path}: 1 texts stand under two labels, such as 'c' under 'x' and 'y'; correct them."):
        Corpus.load(path, conflicts="refuse")
    with refused("conflicts must be 'drop' or 'refuse'; it is 'keep'."):
        Corpus.load(path, conflicts="keep")  # pyright: ignore[reportArgumentType]


# What cannot be used ---------------------------------------------------------------------------------------


BAD_FILES = {
    "empty.csv": (b"", "{} is empty; rows with 'text' and 'label' are needed."),
    "blank.jsonl": (b"\xef\xbb\xbf \n", "{} is empty; rows with 'text' and 'label' are needed."),
    "header.csv": ("text,label\n", "{} has a header (text, label) but no rows; texts are needed."),
    "list.json": ("[]", "{} holds an empty list; texts are needed."),
    "latin1.csv": (
        "text,label\nth\xe9,a\n".encode("latin-1"),
        "{} is not UTF-8 text (line 2); save it again with the encoding UTF-8.",
    ),
    "column.csv": (
        "body;label\nhello;a\n",
        "{} has no column 'text' and no column 'label'; its columns are: body;label. "
        "Name them with text_column (--text-column) and label_column (--label-column).",
    ),
    "column.jsonl": (
        json.dumps({"text": "hello", "topic": "a"}),
        "{} has no column 'label'; its columns are: text, topic. "
        "Name them with text_column (--text-column) and label_column (--label-column).",
    ),
    "comma.csv": (
        "text,label\nhello,a\nwell, hello,a\n",
        '{}: row 2 has 3 cells and the header 2; a cell that holds the separator needs "quotes" around it.',
    ),
    "quote.csv": (
        'text,label\n"hello,a\n',
        "{} is malformed at line 2 (unexpected end of data); check its quotes.",
    ),
    "cut.jsonl": (
        json_lines(("hello", "a"), ("bye", "b"))[:-5],
        "{} is not valid JSON at line 2 (Expecting value); one object a line, or one list of objects, is needed.",
    ),
    "cut.json": (
        '[{"text": "hello", "label": "a"},\n {"text"',
        "{} is not valid JSON at line 2 (Expecting ':' delimiter); "
        "one object a line, or one list of objects, is needed.",
    ),
    "rows.jsonl": (
        '{"text": "a", "label": "b"}\n["a", "b"]',
        '{}: these rows are not objects such as {{"text": …}}: 2.',
    ),
    "not.parquet": (
        b"hello",
        "{} is not a parquet file, or a damaged one; write it again.",
    ),
    "cells.jsonl": (
        '{"text": "", "label": 1}\n{"text": null, "label": 1}\n{"text": NaN, "label": 2}\n{"label": 2}\n'
        '{"text": ["x"], "label": 1}\n{"text": "\\ud83d", "label": 1}\n{"text": " \\t", "label": 1}',
        "{}: texts must be strings that are not empty, but row 1 is empty, row 2 is missing, "
        "row 3 is missing, row 4 is missing, row 5 is of type list and 2 more; fill in or remove these rows.",
    ),
    "half.jsonl": (
        '{"text": "\\ud83d", "label": 1}',
        "{}: texts must be strings that are not empty, but row 1 is not valid Unicode; fill in or remove these rows.",
    ),
    "cell.csv": (
        'text,label\nhello,a\n"",b\n',
        "{}: texts must be strings that are not empty, but row 2 is empty; fill in or remove these rows.",
    ),
    "labels.jsonl": (
        '{"text": "a", "label": " "}\n{"text": "b", "label": null}\n{"text": "c", "label": 1.5}',
        "{}: labels must be names or whole numbers, but row 1 is empty, row 2 is missing, "
        "row 3 is of type float; fill in or remove these rows.",
    ),
    "twice.csv": (
        "text,label,text\na,x,c\n",
        "{} has columns of the same name: 'text'; give each its own.",
    ),
    "deep.json": (
        "[" * 100_000,
        "{} cannot be read as JSON from line 1 on (maximum recursion depth exceeded while decoding a JSON array from a "
        "unicode string).",
    ),
    "one.csv": ("text,label\na,x\nb,x\n", "{} needs at least 2 classes; its classes are: 'x'."),
    "table.xlsx": (b"PK", "{} is of no known kind; save it as one of: .csv, .tsv, .json, .jsonl, .parquet."),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_unusable_files_are_refused(name, tmp_path):
    content, message = BAD_FILES[name]
    path = write(tmp_path, name, content)
    with refused(message.format(path)):
        Corpus.load(path)


def test_sources_that_do_not_exist(tmp_path):
    with refused("There is no file few.csv."):
        Corpus.load("few.csv")
    with refused("There is no file data/few/shots."):
        Corpus.load("data/few/shots")
    with refused(f"{tmp_path} is a folder; name one of its files."):
        Corpus.load(tmp_path)
    with refused("'my tickets' is neither an existing file nor a Hub id such as 'owner/name'."):
        Corpus.load("my tickets")
    with refused(
        "A corpus cannot be loaded from dict; give 'everyday', 'varied', 'lengthy', a file "
        "(.csv, .tsv, .json, .jsonl, .parquet), a Hub id or a datasets.Dataset (not a streaming one)."
    ):
        Corpus.load({"text": ["a"], "label": [1]})  # pyright: ignore[reportArgumentType]


def test_subset_and_split_belong_to_the_hub(tmp_path):
    path = as_csv(tmp_path)
    with refused(f"{path} is one table: subset and split can only be given with a Hub id or a DatasetDict."):
        Corpus.load(path, split="test")
    with refused("split can only be given with a Hub id or a DatasetDict."):
        Corpus.load(as_dataset(tmp_path), split="test")
    with refused("subset can only be given with a Hub id."):
        Corpus.load(as_dataset(tmp_path), subset="en")


def test_unusable_datasets():
    with refused(
        "The data set has no column 'words'; its columns are: text, label. "
        "Name them with text_column (--text-column) and label_column (--label-column)."
    ):
        Corpus.load(labelled_dataset(["a", "b"], [0, 1]), text_column="words")
    with refused("The data set has no rows; texts are needed."):
        Corpus.load(labelled_dataset(["a", "b"], []))
    with refused(
        "The data set: labels must be names or whole numbers, but row 2 is missing; fill in or remove these rows."
    ):
        Corpus.load(labelled_dataset(["a", "b"], [0, -1, 1]))
    with refused(
        "The data set: texts must be strings that are not empty, but row 1 is of type int, "
        "row 2 is of type int; fill in or remove these rows."
    ):
        Corpus.load(Dataset.from_dict({"text": [1, 2], "label": ["a", "b"]}))


def test_without_a_network_the_hub_is_given_up_at_once(monkeypatch):
    # Nothing listens on the discard port, as on a machine without a network.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with refused(
        "owner/name is no local file, and the Hub could not be reached (ConnectError). "
        "Use a local file or 'everyday', or set HF_HUB_OFFLINE=1 if it was downloaded before."
    ):
        Corpus.load("owner/name")


def test_in_offline_mode_only_the_cache_is_searched(tmp_path):
    code = "from episodes import Corpus; Corpus.load('owner/name')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (
        "InputError: owner/name could not be loaded from the Hub "
        "(HF_HUB_OFFLINE is set; use a local file or 'everyday'): Couldn't reach 'owner/name' on the Hub"
    ) in ended.stderr


# The corpus itself -----------------------------------------------------------------------------------------


def small_corpus(**changes):
    fields = {"texts": ("p", "q", "r", "s"), "labels": np.array([2, 0, 1, 2]), "class_names": ("a", "b", "c")}
    return Corpus(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": ("p", "q")}, "corpus has 2 texts, but its labels have the shape (4,)."),
        (
            {"labels": [0, 1, 2, 3]},
            "corpus: labels must be 0 to 2, one for each class name; these are not: 3.",
        ),
        (
            {"labels": [0, 1, 2, -1]},
            "corpus: labels must be 0 to 2, one for each class name; these are not: -1.",
        ),
        ({"class_names": ()}, "corpus needs at least 2 classes; its classes are: none."),
        ({"class_names": ("a", " ", "")}, "corpus: the class names with these indices are empty: 1, 2."),
        ({"class_names": ("a", "b", "a")}, "corpus: these class names stand twice: 'a'."),
        (
            {"texts": ("p", "", None, "s")},
            "corpus: texts must be strings that are not empty, but row 2 is empty, row 3 is missing; "
            "fill in or remove these rows.",
        ),
    ],
)
def test_an_inconsistent_corpus_is_refused(changes, message):
    with refused(message):
        small_corpus(**changes)


def test_labels_cannot_be_changed_from_outside():
    labels = np.array([2, 0, 1, 2])
    corpus = small_corpus(labels=labels)
    labels[0] = 0
    assert corpus.labels.tolist() == [2, 0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        corpus.labels[0] = 0


def test_rows_of_a_class():
    corpus = small_corpus()
    assert [corpus.rows_of(c).tolist() for c in range(3)] == [[1], [2], [0, 3]]
    empty = small_corpus(class_names=("a", "b", "c", "d"))
    assert empty.rows_of(3).tolist() == []


def test_selected_classes_keep_the_corpus_order():
    selected = small_corpus().select_classes(["c", "a"], name="part")
    assert selected.texts == ("p", "q", "s")
    assert selected.labels.tolist() == [1, 0, 1]
    assert selected.class_names == ("a", "c")
    assert selected.name == "part"
    with refused("corpus has no classes 'd', 'e'."):
        small_corpus().select_classes(["a", "d", "e"])


def test_fingerprint_tells_corpora_apart():
    fingerprint = small_corpus().fingerprint
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    assert small_corpus(name="other").fingerprint == fingerprint
    others = [{"texts": ("p", "q", "s", "r")}, {"labels": [2, 0, 1, 1]}, {"class_names": ("a", "c", "b")}]
    assert len({fingerprint, *(small_corpus(**change).fingerprint for change in others)}) == 4


# A task that comes from a user -----------------------------------------------------------------------------


def test_episode_from_texts_keeps_what_it_is_given():
    task = Episode.from_texts(["spam", "ham"], ["buy", "hi", "buy"], [0, 1, 1], ["hello"], [1])
    assert task.n_way == 2
    assert task.class_names == ("spam", "ham")
    assert task.support_texts == ("buy", "hi", "buy")
    assert task.support_labels.tolist() == [0, 1, 1]
    assert task.shots.tolist() == [1, 2]
    assert task.query_texts == ("hello",)
    assert task.query_labels.tolist() == [1]


def test_zero_shot_episode_from_names_alone():
    task = Episode.from_texts(["spam", "ham"])
    assert task.shots.tolist() == [0, 0]
    assert task.support_texts == task.query_texts == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["x"], [0]), "The task needs at least 2 classes; its classes are: 'a'."),
        ((["a", "a"], ["x"], [0]), "The task: these class names stand twice: 'a'."),
        ((["a", ""], ["x"], [0]), "The task: the class names with these indices are empty: 1."),
        ((["a", "b"], ["x", "y"], [0]), "There are 2 support texts, but 1 labels for them."),
        (
            (["a", "b"], ["x"], [2]),
            "The support labels must be whole numbers from 0 to 1, one for each name; these are not: 2.",
        ),
        (
            (["a", "b"], ["x"], [0], ["y", " "], [0, 1]),
            "The query texts: texts must be strings that are not empty, but row 2 is empty; "
            "fill in or remove these rows.",
        ),
    ],
)
def test_an_impossible_task_is_refused(arguments, message):
    with refused(message):
        Episode.from_texts(*arguments)


def test_importing_episodes_imports_no_heavy_library():
    code = "import sys, episodes; print({'torch', 'datasets', 'transformers', 'metawarp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# Domains ---------------------------------------------------------------------------------------------------


def test_a_class_has_the_domain_of_its_rows(tmp_path):
    rows = [("a1", "a", "x"), ("b1", "b", " y "), ("c1", "c", "x"), ("a2", "a", "x")]
    file = tmp_path / "few.csv"
    file.write_text("text,label,desk\n" + "\n".join(",".join(row) for row in rows), encoding="utf-8")
    corpus = Corpus.load(file, domain_column="desk")
    assert corpus.class_names == ("a", "b", "c") and corpus.domains == ("x", "y", "x")
    assert corpus.select_classes(["c", "b"]).domains == ("y", "x")
    assert Corpus.load(file).domains == ()


def test_domains_of_another_kind_are_refused(tmp_path):
    file = tmp_path / "few.csv"
    file.write_text("text,label,desk\na1,a,x\na2,a,y\nb1,b,x\n", encoding="utf-8")
    with refused(f"{file}: a class belongs to one domain, but these stand in several: 'a' (x, y)."):
        Corpus.load(file, domain_column="desk")
    with refused(
        f"{file} has no column 'domain'; its columns are: text, label, desk. "
        "Name them with text_column (--text-column) and label_column (--label-column) "
        "and domain_column (--domain-column)."
    ):
        Corpus.load(file, domain_column="domain")
    file.write_text("text,label,desk\na1,a,x\nb1,b,\n", encoding="utf-8")
    with refused(f"{file}: domains must be names or whole numbers, but row 2 is empty; fill in or remove these rows."):
        Corpus.load(file, domain_column="desk")
    with refused("corpus has 2 classes, but 1 domains of classes."):
        Corpus(("a1", "b1"), np.array([0, 1]), ("a", "b"), domains=("x",))
