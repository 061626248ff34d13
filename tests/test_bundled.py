"""The bundled corpora have the sizes, lengths and properties that their data card describes."""

import json
import re
from collections import defaultdict
from importlib.resources import files
from itertools import combinations

import pytest

from episodes import Corpus, EpisodeSampler
from episodes.reading import BUNDLED

DATA = files("episodes") / "data"
SIZES = {"everyday": (90, 22, 10), "varied": (320, 12, 40), "lengthy": (64, 12, 8)}
"""Numbers of classes, of texts per class, and of domains."""

WORDS = {"everyday": (3, 40), "varied": (3, 40), "lengthy": (60, 130)}
"""Smallest and largest number of words of a text."""


@pytest.fixture(scope="module", params=BUNDLED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def rows(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus(name):
    return Corpus.load(name, conflicts="refuse")


def test_a_corpus_holds_every_row_and_has_the_described_size(name, rows, corpus):
    n_classes, n_texts, n_domains = SIZES[name]
    assert all(set(row) == {"text", "label", "domain"} for row in rows)
    assert (corpus.name, len(corpus), corpus.n_classes) == (name, len(rows), n_classes)
    assert {len(corpus.rows_of(label)) for label in range(n_classes)} == {n_texts}
    assert len(set(corpus.domains)) == n_domains


def test_a_class_belongs_to_one_domain_and_its_name_consists_of_words(rows):
    domains = defaultdict(set)
    for row in rows:
        domains[row["label"]].add(row["domain"])
    assert {label: found for label, found in domains.items() if len(found) > 1} == {}
    assert [label for label in domains if not re.fullmatch(r"[A-Za-z][A-Za-z ',-]*", label)] == []


def test_texts_have_the_described_length(name, rows):
    least, most = WORDS[name]
    lengths = {row["text"]: len(row["text"].split()) for row in rows}
    assert {text: length for text, length in lengths.items() if not least <= length <= most} == {}


def test_no_two_texts_of_a_class_are_nearly_the_same(rows):
    words = defaultdict(list)
    for row in rows:
        words[row["label"]].append((set(row["text"].lower().split()), row["text"]))
    alike = [
        (one, other)
        for texts in words.values()
        for (a, one), (b, other) in combinations(texts, 2)
        if len(a & b) > 0.7 * len(a | b)
    ]
    assert alike == []


def test_the_class_split_is_complete_and_large_enough_for_five_way_five_shot(name, corpus):
    split = corpus.split_classes(name)
    parts = split.names()
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == list(corpus.class_names)
    for part in parts:
        assert EpisodeSampler(split[part], n_way=5, k_shot=5, n_query=7)[0].n_way == 5


@pytest.mark.parametrize("name", ["varied", "lengthy"])
def test_parts_of_a_split_share_no_domain(name):
    split = Corpus.load(name).split_classes(name)
    train, validation, test = (set(split[part].domains) for part in split.names())
    assert not train & validation and not train & test and not validation & test


def test_two_corpora_share_no_class_and_no_text():
    for one, other in combinations(map(Corpus.load, BUNDLED), 2):
        assert not set(one.class_names) & set(other.class_names) and not set(one.texts) & set(other.texts)


def test_the_data_is_small_and_its_license_is_documented():
    assert sum(len(file.read_bytes()) for file in DATA.iterdir() if file.is_file()) < 1_600_000
    assert re.search("Apache-2.0|CC[ -]BY|CC0", (DATA / "README.md").read_text(encoding="utf-8"))
