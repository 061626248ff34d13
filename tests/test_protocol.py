"""Which classes are trained, validated and tested on."""

import json

import pytest
from running import refused
from tiny import tiny_corpus

from episodes import Corpus, protocol
from episodes.protocol import class_split, validation_sampler


def test_the_bundled_corpus_has_its_own_split(everyday):
    assert class_split(Corpus.load("everyday"), None, 7).names() == everyday.names()


def test_another_corpus_of_the_same_name_is_split_at_random_and_has_no_test_part_of_its_own():
    corpus = tiny_corpus(name="everyday")
    parts = class_split(corpus, None, 3).names()
    assert {part: len(names) for part, names in parts.items()} == {"train": 2, "validation": 2, "test": 2}
    assert parts == class_split(tiny_corpus(), None, 3).names()
    with refused("split='test'", "everyday", "splits=FILE", "split='all'"):
        protocol.tested_classes(corpus, None, "test")


def test_the_tested_classes_are_those_of_the_named_part_and_choose_nothing(tmp_path):
    corpus, file = tiny_corpus(), tmp_path / "splits.json"
    names = corpus.class_names
    file.write_text(json.dumps({"train": names[:2], "validation": names[2:4], "test": names[4:]}))
    split, tested = protocol.tested_classes(corpus, str(file), "test")
    assert split is not None
    assert (split.validation.class_names, tested.class_names) == (names[2:4], names[4:])
    split, tested = protocol.tested_classes(corpus, str(file), "validation")
    assert (split, tested.class_names) == (None, names[2:4])
    assert protocol.tested_classes(corpus, None, "all") == (None, corpus)
    with refused("split='all'", "splits"):
        protocol.tested_classes(corpus, str(file), "all")


@pytest.mark.parametrize("n_way", [5, (3, 5)])
def test_validation_episodes_have_no_more_ways_than_there_are_classes(caplog, n_way):
    assert validation_sampler(class_split(tiny_corpus(), None, 0), n_way, 1, 2, 0).n_way == (2, 2)
    assert "validation episodes have 2 ways: there are no more validation classes" in caplog.text
