"""What the data card promises about the bundled corpora, measured."""

import json
import re
from collections import defaultdict
from importlib.resources import files
from itertools import combinations

import pytest

from episodes import Corpus, EpisodeSampler
from episodes.reading import BUNDLED

DATA = files("episodes") / "data"


PROMISED = {"everyday": (90, 22, 10), "varied": (320, 12, 40), "lengthy": (64, 12, 8)}
"""Classes, texts of each, and domains."""

WORDS = {"everyday": (3, 40), "varied": (3, 40), "lengthy": (60, 130)}
"""Of a text."""


@pytest.fixture(scope="module", params=BUNDLED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def rows(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus(name):
    return Corpus.load(name, conflicts="refuse")


def test_every_row_becomes_a_text(name, rows, corpus):
    assert len(corpus) == len(rows)
    assert corpus.name == name
    assert all(set(row) == {"text", "label", "domain"} for row in rows)


def test_it_has_as_many_classes_texts_and_domains_as_promised(name, corpus):
    classes, texts, domains = PROMISED[name]
    assert corpus.n_classes == classes and len(set(corpus.domains)) == domains
    assert {len(corpus.rows_of(c)) for c in range(corpus.n_classes)} == {texts}


def test_a_class_belongs_to_one_domain_and_has_a_name_in_plain_words(rows):
    domains = defaultdict(set)
    for row in rows:
        domains[row["label"]].add(row["domain"])
    assert {label: found for label, found in domains.items() if len(found) > 1} == {}
    assert [label for label in domains if not re.fullmatch(r"[A-Za-z][A-Za-z ',-]*", label)] == []


def test_texts_are_as_long_as_promised(name, rows):
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


def test_its_split_is_disjoint_complete_and_fit_for_five_way_five_shot(name, corpus):
    split = corpus.split_classes(name)
    parts = split.names()
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == list(corpus.class_names)
    for part in parts:
        assert EpisodeSampler(split[part], n_way=5, k_shot=5, n_query=7)[0].n_way == 5


@pytest.mark.parametrize("name", ["varied", "lengthy"])
def test_their_parts_share_no_domain(name):
    split = Corpus.load(name).split_classes(name)
    train, validation, test = (set(split[part].domains) for part in split.names())
    assert not train & validation and not train & test and not validation & test


def test_no_class_stands_in_two():
    for one, other in combinations(map(Corpus.load, BUNDLED), 2):
        assert not set(one.class_names) & set(other.class_names) and not set(one.texts) & set(other.texts)


def test_they_are_small_and_say_where_they_come_from():
    assert sum(len(file.read_bytes()) for file in DATA.iterdir() if file.is_file()) < 1_600_000
    assert re.search(r"licen[cs]e", (DATA / "README.md").read_text(encoding="utf-8"), re.IGNORECASE)
    assert re.search("Apache-2.0|CC[ -]BY|CC0", (DATA / "README.md").read_text(encoding="utf-8"))
