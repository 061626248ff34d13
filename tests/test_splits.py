"""Class-disjoint splits: that they are disjoint and complete, and what is said about those that are not."""

import json

import pytest
from running import refused

from episodes import ClassSplit, Corpus

NAMES = tuple("abcdefghij")


def corpus_of(names=NAMES):
    texts = tuple(f"{name}{i}" for name in names for i in range(2))
    return Corpus(texts, [i // 2 for i in range(len(texts))], tuple(names))


@pytest.mark.parametrize("n_classes", [6, 7, 8, 9, 41, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_from_fractions_are_disjoint_complete_and_large_enough(n_classes, seed):
    names = [f"class {i:03}" for i in range(n_classes)]
    parts = corpus_of(names).split_classes((0.6, 0.15, 0.25), seed=seed).names()
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == names
    assert all(len(part) >= 2 for part in parts.values())
    if n_classes == 100:
        assert [len(part) for part in parts.values()] == [60, 15, 25]


def test_the_draw_is_the_same_on_every_machine_and_differs_between_seeds():
    parts = corpus_of().split_classes((0.6, 0.2, 0.2), seed=0).names()
    assert parts == GOLDEN
    assert parts != corpus_of().split_classes((0.6, 0.2, 0.2), seed=1).names()


GOLDEN = {"train": ["c", "d", "e", "f", "g", "h"], "validation": ["a", "j"], "test": ["b", "i"]}


def test_a_part_holds_the_texts_of_its_classes_and_nothing_else():
    corpus = corpus_of()
    split = corpus.split_classes((0.6, 0.2, 0.2))
    for part in ("train", "validation", "test"):
        assert all(
            text[0] == split[part].class_names[c] for text, c in zip(split[part].texts, split[part].labels, strict=True)
        )
        assert split[part].name == f"corpus[{part}]"
    assert sum(map(len, (split.train, split.validation, split.test))) == len(corpus)


def test_splits_come_from_a_dict_or_a_file_and_go_to_one(tmp_path):
    lists = {"train": list("jihgfe"), "validation": ["a", " b "], "test": ["d", "c"], "note": "ignored"}
    split = corpus_of().split_classes(lists)
    assert split.names() == {"train": list("efghij"), "validation": ["a", "b"], "test": ["c", "d"]}
    split.to_json(tmp_path / "splits.json")
    again = corpus_of().split_classes(tmp_path / "splits.json")
    assert again.names() == split.names()
    assert again.test.fingerprint == split.test.fingerprint


def test_whole_numbers_name_classes_as_their_digits():
    split = corpus_of("123456").split_classes({"train": [1, 2], "validation": [3, 4], "test": ["5", "6"]})
    assert split.names()["train"] == ["1", "2"]


PARTS = {"train": list("abcdef"), "validation": ["g", "h"], "test": ["i", "j"]}


@pytest.mark.parametrize(
    ("recipe", "facts"),
    [
        ((0.6, 0.4), ["three positive numbers", "add up to 1", "0.6, 0.4"]),
        ((0.6, 0.6, -0.2), ["three positive numbers", "0.6, 0.6, -0.2"]),
        ((0.01, 0.495, 0.495), ["10 classes", "at least 2", "0.01, 0.495, 0.495"]),
        (PARTS | {"validation": ["g", "h", "a"], "test": ["i", "j", "h"]}, ["overlap", "'a', 'h'."]),
        (PARTS | {"train": list("abcdefx"), "test": ["i", "j", "y"]}, ["corpus does not have", "'x', 'y'."]),
        (PARTS | {"test": [f"n{i}" for i in range(12)]}, ["does not have: 'n0', 'n1'", "'n9' and 2 more."]),
        (PARTS | {"train": list("abcd")}, ["leaves out classes of corpus: 'e', 'f'."]),
        (PARTS | {"train": list("abcdefgh"), "validation": []}, ["corpus[validation]", "at least 2 classes", "none"]),
        (
            {"train": list("abcdefg"), "val": ["h"], "test": ["i", "j"]},
            ["'train', 'validation' and 'test'", "'train', 'val', 'test'"],
        ),
        (PARTS | {"train": "abcdef"}, ["'train'", "list of class names"]),
    ],
)
def test_unusable_recipes_are_refused(recipe, facts):
    with refused(*facts):
        corpus_of().split_classes(recipe)


def test_too_few_classes_and_negative_seeds_are_refused():
    with refused("corpus has 5 classes", "at least 2", "0.6, 0.2, 0.2"):
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
    with refused(path, "'train', 'validation' and 'test'", "list"):
        corpus_of().split_classes(str(path))


def test_parts_that_share_a_class_are_no_split():
    corpus = corpus_of()
    with refused("overlap", "'b'"):
        ClassSplit(corpus.select_classes("ab"), corpus.select_classes("bc"), corpus.select_classes("de"))


def test_an_unknown_part_is_refused():
    split = corpus_of().split_classes((0.6, 0.2, 0.2))
    assert split["test"] is split.test
    with refused("train, validation, test", "'dev'"):
        split["dev"]
