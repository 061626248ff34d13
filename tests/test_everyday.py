"""What the data card promises about the bundled corpus, measured."""

import json
import re
from collections import defaultdict
from importlib.resources import files
from itertools import combinations

import pytest

from episodes import Corpus, EpisodeSampler

DATA = files("episodes") / "data"


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in (DATA / "everyday.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus():
    return Corpus.load("everyday", conflicts="refuse")


def test_every_row_becomes_a_text(rows, corpus):
    assert len(corpus) == len(rows)
    assert corpus.name == "everyday"
    assert all(set(row) == {"text", "label", "domain"} for row in rows)


def test_it_has_enough_classes_texts_and_domains(rows, corpus):
    assert corpus.n_classes >= 60
    assert min(len(corpus.rows_of(c)) for c in range(corpus.n_classes)) >= 20
    assert len({row["domain"] for row in rows}) >= 8


def test_a_class_belongs_to_one_domain_and_has_a_name_in_plain_words(rows):
    domains = defaultdict(set)
    for row in rows:
        domains[row["label"]].add(row["domain"])
    assert {label: found for label, found in domains.items() if len(found) > 1} == {}
    assert [label for label in domains if not re.fullmatch(r"[A-Za-z][A-Za-z ',-]*", label)] == []


def test_texts_are_short(rows):
    lengths = {row["text"]: len(row["text"].split()) for row in rows}
    assert {text: length for text, length in lengths.items() if not 3 <= length <= 40} == {}


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


def test_its_split_is_disjoint_complete_and_fit_for_five_way_five_shot(corpus):
    split = corpus.split_classes("everyday")
    parts = split.names()
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == list(corpus.class_names)
    for part in parts:
        assert EpisodeSampler(split[part], n_way=5, k_shot=5, n_query=10)[0].n_way == 5


def test_it_is_small_and_says_where_it_comes_from():
    assert sum(len(file.read_bytes()) for file in DATA.iterdir() if file.is_file()) < 400_000
    assert re.search(r"licen[cs]e", (DATA / "README.md").read_text(encoding="utf-8"), re.IGNORECASE)
    assert re.search("Apache-2.0|CC[ -]BY|CC0", (DATA / "README.md").read_text(encoding="utf-8"))
