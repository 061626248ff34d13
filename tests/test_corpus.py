"""Corpora, and tasks from texts of a user: their contents, and what is refused."""

import re

import numpy as np
import pytest
from running import refused

from episodes import Corpus, Episode


def small_corpus(**changes):
    fields = {"texts": ("p", "q", "r", "s"), "labels": np.array([2, 0, 1, 2]), "class_names": ("a", "b", "c")}
    return Corpus(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"texts": ("p", "q")}, ["2 texts", "(4,)"]),
        ({"labels": [0, 1, 2, 3]}, ["labels", "0 to 2", ": 3."]),
        ({"labels": [0, 1, 2, -1]}, ["labels", "0 to 2", ": -1."]),
        ({"class_names": ()}, ["at least 2 classes", "none"]),
        ({"class_names": ("a", " ", "")}, ["class names", "non-empty strings", "' ', ''."]),
        ({"class_names": ("a", "b", "a")}, ["class names", "twice", "'a'"]),
        ({"texts": ("p", "", None, "s")}, ["texts", "row 2 is empty, row 3 is missing"]),
    ],
)
def test_an_inconsistent_corpus_is_refused(changes, facts):
    with refused("corpus", *facts):
        small_corpus(**changes)


def test_labels_cannot_be_changed_from_outside():
    labels = np.array([2, 0, 1, 2])
    corpus = small_corpus(labels=labels)
    labels[0] = 0
    assert corpus.labels.tolist() == [2, 0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        corpus.labels[0] = 0


def test_each_class_knows_its_rows():
    corpus = small_corpus()
    assert [corpus.rows_of(c).tolist() for c in range(3)] == [[1], [2], [0, 3]]
    empty = small_corpus(class_names=("a", "b", "c", "d"))
    assert empty.rows_of(3).tolist() == []


def test_selected_classes_keep_the_corpus_order():
    selected = small_corpus().select_classes(["c", "a"], name="part")
    assert (selected.name, selected.class_names, selected.texts) == ("part", ("a", "c"), ("p", "q", "s"))
    assert selected.labels.tolist() == [1, 0, 1]
    with refused("corpus has no classes 'd', 'e'."):
        small_corpus().select_classes(["a", "d", "e"])


def test_different_corpora_have_different_fingerprints():
    fingerprint = small_corpus().fingerprint
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    assert small_corpus(name="other").fingerprint == fingerprint
    others = [{"texts": ("p", "q", "s", "r")}, {"labels": [2, 0, 1, 1]}, {"class_names": ("a", "c", "b")}]
    assert len({fingerprint, *(small_corpus(**change).fingerprint for change in others)}) == 4


# A task from texts of a user --------------------------------------------------------------------------------


def test_an_episode_from_texts_holds_the_given_texts_and_labels():
    task = Episode.from_texts(["spam", "ham"], ["buy", "hi", "buy"], [0, 1, 1], ["hello"], [1])
    assert (task.n_way, task.class_names, task.shots.tolist()) == (2, ("spam", "ham"), [1, 2])
    assert (task.support_texts, task.support_labels.tolist()) == (("buy", "hi", "buy"), [0, 1, 1])
    assert (task.query_texts, task.query_labels.tolist()) == (("hello",), [1])
    without_texts = Episode.from_texts(["spam", "ham"])
    assert without_texts.shots.tolist() == [0, 0]
    assert without_texts.support_texts == without_texts.query_texts == ()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ((["a"], ["x"], [0]), ["at least 2 classes", "'a'"]),
        ((["a", "a"], ["x"], [0]), ["class names", "twice", "'a'"]),
        ((["a", ""], ["x"], [0]), ["class names", "non-empty strings", ": ''."]),
        ((["a", "b"], ["x", "y"], [0]), ["2 support texts", "1 labels"]),
        ((["a", "b"], ["x"], [2]), ["support labels", "0 to 1", ": 2."]),
        ((["a", "b"], ["x"], [0], ["y", " "], [0, 1]), ["query texts", "row 2 is empty"]),
    ],
)
def test_an_impossible_task_is_refused(arguments, facts):
    with refused(*facts):
        Episode.from_texts(*arguments)


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
    with refused(file, "one domain", "'a' (x, y)"):
        Corpus.load(file, domain_column="desk")
    with refused(file, "domain_column='domain'", "columns are: text, label, desk"):
        Corpus.load(file, domain_column="domain")
    file.write_text("text,label,desk\na1,a,x\nb1,b,\n", encoding="utf-8")
    with refused(file, "domains", "row 2 is empty"):
        Corpus.load(file, domain_column="desk")
    with refused("2 classes", "got 1"):
        Corpus(("a1", "b1"), np.array([0, 1]), ("a", "b"), domains=("x",))
