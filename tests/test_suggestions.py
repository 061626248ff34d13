"""Which texts are suggested for labelling."""

import csv

import pytest
import torch
from commands import refusal
from running import refused

from metawarp import Backbone, WarpClassifier, suggest
from metawarp.cli import main
from metawarp.suggestions.facility_location import greedy_choices
from metawarp.suggestions.strategy import MAX_COVERED, Pool
from metawarp.suggestions.suggest import suggestions

KINDS = {
    "delivery": ["where is my parcel", "my parcel never came", "has the parcel been sent yet", "the courier is late"],
    "refund": ["i want my money back", "please refund me", "can i get a refund", "return my payment"],
    "bug": ["the app crashes at login", "the app shows error 500", "the program freezes", "the start page is broken"],
}
TEXTS = [text for texts in KINDS.values() for text in texts]
LABELS = [name for name, texts in KINDS.items() for _ in texts]
NAMES = list(KINDS)


@pytest.fixture
def classifier(minilm: Backbone) -> WarpClassifier:
    """A classifier on the bundled backbone that is not fitted."""
    return WarpClassifier("general", minilm)


def circle(*degrees: float) -> torch.Tensor:
    """Points on a circle."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], -1)


# The strategy ---------------------------------------------------------------------------------------------


def test_each_choice_adds_the_most_coverage():
    similarity = torch.tensor([[1.0, 0.6, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    ones, none, every = torch.ones(3), torch.zeros(3), torch.ones(3, dtype=torch.bool)
    assert greedy_choices(similarity, ones, none, every, 3) == [0, 2, 1]
    assert greedy_choices(similarity, ones, similarity[0], every, 1) == [2]  # what is covered is not chosen again
    assert greedy_choices(similarity, torch.tensor([0.1, 0.1, 5.0]), none, every, 1) == [2]
    assert greedy_choices(similarity, ones, none, torch.tensor([False, True, True]), 2) == [1, 2]


def test_as_many_are_chosen_as_there_are_even_if_they_add_nothing():
    same = torch.ones(200, 1)
    chosen = greedy_choices(same, torch.ones(1), torch.zeros(1), torch.ones(200, dtype=torch.bool), 200)
    assert sorted(chosen) == list(range(200))


def test_the_choices_are_those_of_computing_every_gain_again():
    similarity = torch.rand(300, 80, generator=torch.Generator().manual_seed(0)) ** 4
    weights, covered, expected = torch.linspace(0.5, 1, 80), torch.zeros(80), []
    for _ in range(40):
        gains = (similarity - covered).clamp(min=0) @ weights
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        covered = torch.maximum(covered, similarity[expected[-1]])
    every = torch.ones(300, dtype=torch.bool)
    assert greedy_choices(similarity, weights, torch.zeros(80), every, 40) == expected


def test_typical_points_of_different_groups_are_chosen_before_outliers():
    points = circle(0, 2, 4, 6, 8, 120, 122, 124, 126, 240, 242, 244, 300)
    none = torch.zeros(0, dtype=torch.long)
    chosen = Pool(points, None, none, none).most_worth_labelling(3)
    assert [sum(i >= first for first in (5, 9)) for i in sorted(chosen)] == [0, 1, 2]
    assert 12 not in chosen


def test_groups_without_a_label_come_first():
    points = circle(0, 2, 4, 6, 8, 120, 122, 124, 126, 240, 242, 244)
    labelled = torch.tensor([2, 6])
    assert Pool(points, None, labelled, labelled).most_worth_labelling(1)[0] >= 9


def test_with_labels_uncertain_texts_count_more():
    points = circle(0, 2, 4, 180, 182, 184)
    sure, unsure = [0.98, 0.02], [0.5, 0.5]
    labelled, labels = torch.tensor([0, 3]), torch.tensor([0, 1])
    for uncertain in ([1, 2], [4, 5]):
        rows = [unsure if i in uncertain else sure for i in range(6)]
        assert Pool(points, torch.tensor(rows), labelled, labels).most_worth_labelling(1)[0] in uncertain


def test_a_part_of_a_large_pool_stands_for_it():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(MAX_COVERED + 500, 8, generator=generator)
    none = torch.zeros(0, dtype=torch.long)
    chosen = Pool(points, None, none, none).most_worth_labelling(20)
    assert len(set(chosen)) == 20


# suggest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [None, NAMES], ids=["nothing", "names"])
def test_the_first_suggestions_are_of_different_classes(classifier, names):
    chosen = suggest(TEXTS, names, n=3, classifier=classifier)
    assert {LABELS[i] for i in chosen} == set(NAMES)


def test_rounds_go_on_from_what_is_labelled(classifier):
    labelled: dict[int, str] = {}
    for _ in range(3):
        chosen = suggest(TEXTS, NAMES, labelled, n=3, classifier=classifier)
        assert not set(chosen) & set(labelled)
        labelled |= {i: LABELS[i] for i in chosen}
    assert len(labelled) == 9
    assert set(suggest(TEXTS, None, labelled, n=3, classifier=classifier)) == set(range(12)) - set(labelled)


def test_texts_of_no_class_are_labelled_in_rounds_too(classifier):
    first = suggest(TEXTS, n=2, classifier=classifier)
    for labels in (["delivery", "unknown"], ["delivery", "refund", "unknown"]):
        rounds = dict(zip([*first, 0 if 0 not in first else 1], labels, strict=False))
        found = suggest(TEXTS, labelled=rounds, n=3, classifier=classifier)
        assert len(found) == 3 and not set(found) & set(rounds)


def test_a_class_without_a_label_comes_next(classifier):
    labelled = {0: "delivery", 1: "delivery", 4: "refund", 5: "refund"}
    assert LABELS[suggest(TEXTS, NAMES, labelled, n=1, classifier=classifier)[0]] == "bug"


@pytest.mark.parametrize("given", [{}, {"class_names": NAMES}, {"labelled": {0: "delivery", 5: "refund"}}])
def test_the_choice_is_the_same_every_time_and_its_beginning_that_for_fewer(classifier, given):
    chosen = suggest(TEXTS, **given, n=6, classifier=classifier)
    assert chosen == suggest(TEXTS, **given, n=6, classifier=classifier)
    assert chosen[:2] == suggest(TEXTS, **given, n=2, classifier=classifier)


def test_labels_of_one_class_alone_are_not_suggested_again(classifier):
    chosen = suggest(TEXTS, labelled={0: "delivery"}, n=2, classifier=classifier)
    assert {LABELS[i] for i in chosen} == {"refund", "bug"}


def test_texts_without_content_and_copies_are_never_suggested(classifier):
    texts = ["", *TEXTS, "\u200b", f" {TEXTS[3]}", TEXTS[0]]
    chosen = suggest(texts, labelled={1: "delivery"}, n=11, classifier=classifier)
    assert sorted(chosen) == list(range(2, 13))


def test_integer_labels_and_predictions(classifier):
    names = {10: "delivery", 20: "refund", 30: "bug"}
    found = suggestions(TEXTS, names, {0: 10, 4: 20, 8: 30}, 4, classifier)
    assert found.labels is not None and found.probabilities is not None
    assert all(type(label) is int for label in found.labels.tolist())
    task = WarpClassifier("general", classifier.backbone).fit([TEXTS[0], TEXTS[4], TEXTS[8]], [10, 20, 30], names)
    expected = task.predict_proba([TEXTS[i] for i in found.indices])
    assert found.probabilities == pytest.approx(expected.max(1), abs=1e-5)
    assert found.labels.tolist() == task.predict([TEXTS[i] for i in found.indices]).tolist()


def test_a_fitted_classifier_lends_its_settings_and_stays_as_it_is(classifier):
    fitted = classifier.fit(TEXTS, LABELS)
    before = fitted.predict_proba(TEXTS)
    assert suggest(TEXTS, n=3, classifier=fitted) == suggest(TEXTS, n=3, classifier=WarpClassifier("general"))
    assert (fitted.predict_proba(TEXTS) == before).all()


def test_an_adaptive_init_suggests_as_well(minilm):
    labelled = {0: "delivery", 1: "delivery", 4: "refund", 5: "refund"}
    model = WarpClassifier("adaptive", minilm, adapt=1)
    assert len(suggest(TEXTS, NAMES, labelled, 3, model)) == 3
    assert len(suggest(TEXTS, n=3, classifier=model)) == 3


def test_one_text_alone_and_equal_points_can_be_suggested(classifier):
    assert suggest(["where is my parcel"], n=1, classifier=classifier) == [0]
    none = torch.zeros(0, dtype=torch.long)
    assert sorted(Pool(torch.ones(3, 4), None, none, none).most_worth_labelling(3)) == [0, 1, 2]


# Bad input ------------------------------------------------------------------------------------------------

BAD = {
    "n of zero": ({"n": 0}, ["n=0", "at least 1"]),
    "n that is no number": ({"n": "3"}, ["n='3'", "integer"]),
    "n that is a bool": ({"n": True}, ["n=True"]),
    "too many": ({"n": 12, "labelled": {0: "bug"}}, ["n=12", "12 texts", "1 are labelled", "11 are left", "smaller n"]),
    "an index that does not exist": ({"labelled": {12: "bug", 0: "bug"}}, ["12", "from 0 to 11"]),
    "an index from behind": ({"labelled": {-1: "bug"}}, ["-1", "from 0 to 11"]),
    "an index that is a text": ({"labelled": {TEXTS[0]: "bug"}}, [TEXTS[0], "integers from 0 to 11"]),
    "labels as a list": ({"labelled": ["bug"]}, ["labelled must be a mapping", "not list"]),
    "a label outside the classes": ({"labelled": {0: "other"}, "class_names": NAMES}, ["other", "not in class_names"]),
    "a missing label": ({"labelled": {0: None}}, ["labels are missing"]),
    "one class name": ({"class_names": ["bug"]}, ["at least 2 classes"]),
    "another classifier": ({"classifier": "general"}, ["classifier must be a WarpClassifier", "not str"]),
    "several inits": ({"classifier": WarpClassifier(["general", "untrained"])}, ["init is a list", "name one init"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case):
    given, facts = BAD[case]
    with refused(*facts):
        suggest(TEXTS, **{"n": 2, **given})


@pytest.mark.parametrize("texts", ["one text", {"a": 1}, [1, 2], 5])
def test_what_is_no_list_of_texts_is_refused(texts):
    with refused("texts"):
        suggest(texts)


def test_a_label_for_a_text_without_content_and_an_empty_pool_are_refused():
    with refused("labelled", "without content", "1", "leave these out"):
        suggest(["one", " "], labelled={1: "a"}, n=1)
    with refused("n=10", "0 texts", "0 are left", "more texts"):
        suggest([])
    with refused("n=2", "3 texts", "2 are copies or have no content", "1 are left"):
        suggest(["one", " ", "one"], n=2)


# The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path):
    """A file of texts."""
    file = tmp_path / "pool.csv"
    file.write_text("text\n" + "".join(f"{text}\n" for text in [*TEXTS, "", '"two\nlines"']))
    return file


def table(file, delimiter=","):
    """The rows of a table."""
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened, delimiter=delimiter))


def test_the_table_of_one_round_is_the_input_of_the_next(capsys, pool, tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.tsv"
    names = [f"--class-name={name}" for name in NAMES]
    main(["suggest", f"--data={pool}", *names, "-n", "3", f"--output={first}"])
    assert "number of texts to label: 3, best first; correct the labels" in capsys.readouterr().out
    header, *rows = table(first)
    assert header == ["text", "label", "probability"]
    assert len(rows) == 3 and {label for _, label, _ in rows} <= set(NAMES)
    assert all(text in TEXTS and 0 < float(probability) <= 1 for text, _, probability in rows)
    few = tmp_path / "few.csv"
    few.write_text("text,label\na text from elsewhere,bug\n")
    labelled = [f"--labelled={first}", f"--labelled={few}"]
    main(["suggest", f"--data={pool}", *labelled, *names, "--n=4", f"--output={second}"])
    texts = [text for text, *_ in table(second, "\t")[1:]]
    assert len(texts) == 4 and not {*texts} & {"a text from elsewhere", *(text for text, *_ in rows)}


def test_without_classes_the_labels_are_left_to_the_reader(capsys, pool, tmp_path):
    main(["suggest", f"--data={pool}", "-n", "2", f"--output={tmp_path}/x.csv"])
    assert "add the labels" in capsys.readouterr().out
    assert all(row[1:] == ["", ""] for row in table(tmp_path / "x.csv")[1:])


def test_wrong_commands_are_refused_in_one_line(capsys, pool, tmp_path):
    suggest_from = ["suggest", f"--data={pool}"]
    output = tmp_path / "x.csv"
    output.write_text("precious")
    refusal(capsys, [*suggest_from, f"--output={output}"], "exists already", "--overwrite")
    assert output.read_text() == "precious"
    refusal(capsys, [*suggest_from, f"--output={pool}", "--overwrite"], "name another file", "--output")
    refusal(capsys, [*suggest_from, f"--output={tmp_path}/y.jsonl"], "must end in .csv or .tsv", "--output")
    refusal(capsys, [*suggest_from, "-n", "99", f"--output={tmp_path}/y.csv"], "n=99", "13 are left", "flags: --n")
    refusal(capsys, [*suggest_from, "--labelled=", f"--output={tmp_path}/y.csv"], "labelled=''", "flags: --labelled")
    few = tmp_path / "few.csv"
    few.write_text(f"text,label\n{TEXTS[0]},bug\n{TEXTS[0]},refund\n")
    refusal(capsys, [*suggest_from, f"--labelled={few}", f"--output={tmp_path}/y.csv"], "two labels", "correct them")
    refusal(capsys, [*suggest_from, "--labelled=none.csv", f"--output={tmp_path}/y.csv"], "none.csv")
