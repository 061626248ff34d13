"""Which classes are trained, validated and tested on."""

import json

import pytest
from running import refused
from tiny import tiny_corpus

from episodes import Corpus, protocol
from episodes.protocol import class_split, validation_sampler


def test_the_bundled_corpus_has_its_own_split(everyday):
    assert class_split(Corpus.load("everyday"), None, 7).names() == everyday.names()


def test_the_name_alone_makes_no_bundled_corpus():
    corpus = tiny_corpus(name="everyday")
    parts = class_split(corpus, None, 3).names()
    assert {part: len(names) for part, names in parts.items()} == {"train": 2, "validation": 2, "test": 2}
    assert parts == class_split(tiny_corpus(), None, 3).names()
    with refused("split='test'", "everyday", "splits=FILE", "split='all'"):
        protocol.tested_classes(corpus, None, "test")


def test_classes_under_test_choose_nothing(tmp_path):
    corpus = tiny_corpus()
    names = list(corpus.class_names)
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({"train": names[:2], "validation": names[2:4], "test": names[4:]}))
    split, tested = protocol.tested_classes(corpus, str(file), "test")
    assert split is not None
    assert (split.validation.class_names, tested.class_names) == (tuple(names[2:4]), tuple(names[4:]))
    split, tested = protocol.tested_classes(corpus, str(file), "validation")
    assert split is None
    assert tested.class_names == tuple(names[2:4])
    assert protocol.tested_classes(corpus, None, "all") == (None, corpus)
    with refused("split='all'", "splits"):
        protocol.tested_classes(corpus, str(file), "all")


@pytest.mark.parametrize("n_way", [5, (3, 5), [1 + 1, 5]])
def test_validation_takes_the_ways_that_there_are(caplog, n_way):
    split = class_split(tiny_corpus(), None, 0)
    sampler = validation_sampler(split, n_way, 1, 2, 0)
    assert sampler.n_way == (2, 2)
    assert "validation episodes have 2 ways: there are no more validation classes" in caplog.text
