"""Class splits: the parts are disjoint and complete, and other splits are refused."""

import json
import os
from threading import get_ident
from typing import Any

import numpy as np
import pytest
from running import refused

from episodes import ClassSplit, Corpus, writing

NAMES = tuple("abcdefghij")


def corpus_of(names=NAMES):
    texts = tuple(f"{name}{i}" for name in names for i in range(2))
    return Corpus(texts, np.arange(len(texts)) // 2, tuple(names))


@pytest.mark.parametrize("n_classes", [6, 7, 8, 9, 41, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_from_fractions_are_disjoint_complete_and_large_enough(n_classes, seed):
    names = [f"class {i:03}" for i in range(n_classes)]
    parts = corpus_of(names).split_classes((0.6, 0.15, 0.25), seed=seed).names()
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == names
    assert all(len(part) >= 2 for part in parts.values())
    if n_classes == 100:
        assert [len(part) for part in parts.values()] == [60, 15, 25]


def test_a_random_split_is_the_recorded_one_on_every_machine_and_differs_between_seeds():
    parts = corpus_of().split_classes((0.6, 0.2, 0.2), seed=0).names()
    assert parts == {"train": ["c", "d", "e", "f", "g", "h"], "validation": ["a", "j"], "test": ["b", "i"]}
    assert parts != corpus_of().split_classes((0.6, 0.2, 0.2), seed=1).names()


def test_a_part_holds_the_texts_of_its_classes_and_nothing_else():
    corpus = corpus_of()
    split = corpus.split_classes((0.6, 0.2, 0.2))
    for name in ("train", "validation", "test"):
        part = split[name]
        assert [text[0] for text in part.texts] == [part.class_names[label] for label in part.labels]
        assert part.name == f"corpus[{name}]"
    assert sum(map(len, (split.train, split.validation, split.test))) == len(corpus)


def test_a_split_is_read_from_a_dict_and_written_to_and_read_from_a_file(tmp_path):
    lists = {"train": list("jihgfe"), "validation": ["a", " b "], "test": ["d", "c"]}
    split = corpus_of().split_classes(lists)
    assert split.names() == {"train": list("efghij"), "validation": ["a", "b"], "test": ["c", "d"]}
    split.to_json(tmp_path / "splits.json")
    again = corpus_of().split_classes(tmp_path / "splits.json")
    assert again.names() == split.names()
    assert again.test.fingerprint == split.test.fingerprint


def test_integers_in_a_split_name_classes():
    parts: dict[str, Any] = {"train": [1, 2], "validation": [3, 4], "test": ["5", "6"]}
    assert corpus_of("123456").split_classes(parts).names()["train"] == ["1", "2"]


PARTS = {"train": list("abcdef"), "validation": ["g", "h"], "test": ["i", "j"]}


@pytest.mark.parametrize(
    ("recipe", "facts"),
    [
        ((0.6, 0.4), ["three positive numbers", "add up to 1", "0.6, 0.4"]),
        ((0.6, 0.6, -0.2), ["three positive numbers", "0.6, 0.6, -0.2"]),
        ((0.01, 0.495, 0.495), ["10 classes", "0.01, 0.495, 0.495", "fewer than 2"]),
        (PARTS | {"validation": ["g", "h", "a"], "test": ["i", "j", "h"]}, ["once", "'a', 'h'."]),
        (PARTS | {"train": list("abcdefx"), "test": ["i", "j", "y"]}, ["corpus does not have", "'x', 'y'."]),
        (PARTS | {"test": [f"n{i}" for i in range(12)]}, ["does not have: 'n0', 'n1'", "'n9' and 2 more."]),
        (PARTS | {"train": list("abcd")}, ["leaves out classes of corpus: 'e', 'f'."]),
        (PARTS | {"train": list("abcdefgh"), "validation": []}, ["corpus[validation]", "at least 2 classes", "none"]),
        ({"train": list("abcdefg"), "val": ["h"], "test": ["i", "j"]}, ["'validation' is missing", "'val' is unknown"]),
        (PARTS | {"train": [True, "a", 1.5]}, ["train.0", "train.2"]),
        (PARTS | {"train": "abcdef"}, ["train must be a valid list, not 'abcdef'"]),
    ],
)
def test_unusable_splits_are_refused(recipe, facts):
    with refused(*facts):
        corpus_of().split_classes(recipe)


def test_too_few_classes_negative_seeds_and_overlapping_parts_are_refused():
    corpus = corpus_of()
    with refused("once", "'b'"):
        ClassSplit(corpus.select_classes("ab"), corpus.select_classes("bc"), corpus.select_classes("de"))
    with refused("corpus has 5 classes", "0.6, 0.2, 0.2", "fewer than 2"):
        corpus_of("abcde").split_classes((0.6, 0.2, 0.2))
    with refused("seed=-1", "at least 0"):
        corpus_of().split_classes((0.6, 0.2, 0.2), seed=-1)


def test_unusable_files_are_refused(tmp_path):
    path = tmp_path / "splits.json"
    with refused("no file", path):
        corpus_of().split_classes(path)
    path.write_text('{"train": [')
    with refused(path, "not valid JSON", "line 1 column 12"):
        corpus_of().split_classes(path)
    path.write_text(json.dumps(["a", "b"]))
    with refused(path, "must be an object, not ['a', 'b']"):
        corpus_of().split_classes(str(path))


def test_an_unknown_part_is_refused():
    split = corpus_of().split_classes((0.6, 0.2, 0.2))
    assert split["test"] is split.test
    with refused("train, validation, test", "'dev'"):
        split["dev"]


def test_a_split_is_not_written_through_a_link(tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "splits.json").symlink_to(tmp_path / "secret")
    part = f"splits.json.{os.getpid()}-{writing._start_of(os.getpid())}-{get_ident()}.part"
    (tmp_path / part).symlink_to(tmp_path / "secret")
    corpus_of().split_classes((0.6, 0.2, 0.2)).to_json(tmp_path / "splits.json")
    assert (tmp_path / "secret").read_text() == "secret" and not (tmp_path / "splits.json").is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"secret", "splits.json"}
