"""Labels come back as they were given, in type and value."""

from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import pandas
import pytest
from classifiers import tiny_classifier
from running import refused
from sklearn.metrics import roc_auc_score

from metawarp import WarpClassifier

TEXTS = ["rain today", "cold rain", "play music", "music now"]


class Topic(StrEnum):
    RAIN = "rain and more of it"
    MUSIC = "music"


class Code(IntEnum):
    RAIN = 7
    MUSIC = 3


PAIRS = {
    "strings": ("rain", "music"),
    "strings of numpy": (np.str_("rain"), np.str_("music")),
    "a string with a zero character": ("rain\0", "music"),
    "integers": (7, -3),
    "integers beyond 64 bits": (2**64 + 1, 2**64),
    "integers up to and beyond 63 bits": (2**63, 1),
    "integers of numpy": (np.int8(7), np.int8(3)),
    "booleans": (True, False),
    "booleans of numpy": (np.True_, np.False_),
    "whole floats": (1.0, 2.0),
    "whole floats of numpy": (np.float32(1), np.float32(2)),
    "a string enum": (Topic.RAIN, Topic.MUSIC),
    "an integer enum": (Code.RAIN, Code.MUSIC),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_labels_come_back_unchanged(tiny, kind):
    one, two = PAIRS[kind]
    model = tiny_classifier(tiny).fit(TEXTS, [one, one, two, two])
    assert model.classes_.tolist() == sorted([one, two])
    predicted = model.predict(TEXTS)
    assert set(predicted) <= {one, two}
    plain = [label.item() if isinstance(label, np.generic) else label for label in (one, two)]
    assert {type(label) for label in predicted.tolist()} == {type(plain[0])}
    if isinstance(one, np.generic):
        assert predicted.dtype == np.array([one, two]).dtype
    assert 0 <= model.score(TEXTS, [one, one, two, two]) <= 1


@pytest.mark.parametrize("kind", [kind for kind in PAIRS if "enum" not in kind])
def test_labels_of_a_saved_task_come_back_unchanged(tiny, tmp_path, kind):
    one, two = PAIRS[kind]
    model = tiny_classifier(tiny).fit(TEXTS, [one, one, two, two])
    model.save(tmp_path)
    loaded = WarpClassifier.load(tmp_path, tiny)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert list(map(type, loaded.classes_.tolist())) == list(map(type, model.classes_.tolist()))


@pytest.mark.parametrize(("kind", "value"), [("a string enum", "'music'"), ("an integer enum", "3")])
def test_members_of_an_enum_are_not_saved(tiny, tmp_path, kind, value):
    one, two = PAIRS[kind]
    with refused("cannot be saved", value):
        tiny_classifier(tiny).fit(TEXTS, [one, one, two, two]).save(tmp_path / "task")
    assert not (tmp_path / "task").exists()


def test_the_order_of_the_names_does_not_change_that_of_the_classes(tiny):
    labels = ["spam", "spam", "ham", "ham"]
    models = [tiny_classifier(tiny).fit(TEXTS, labels, names) for names in (["spam", "ham"], ["ham", "spam"], None)]
    scores = [roc_auc_score(labels, model.predict_proba(TEXTS)[:, 1]) for model in models]
    assert all(model.classes_.tolist() == ["ham", "spam"] for model in models)
    assert scores == [scores[0]] * 3


def test_labels_of_pandas_are_labels(tiny):
    columns: list[Any] = [
        pandas.Series(["rain", "rain", "music", "music"], dtype="category"),
        pandas.Series([7, 7, 3, 3], dtype="Int64"),
        pandas.Series(["rain", "rain", "music", "music"], dtype="string"),
    ]
    for labels in columns:
        assert tiny_classifier(tiny).fit(TEXTS, labels).classes_.tolist() == sorted(set(labels))


def test_a_column_of_names_is_read_by_its_index(tiny):
    named = {
        "a mapping": {1: "rain", 0: "music"},
        "a column": pandas.Series({1: "rain", 0: "music"}),
        "a list": ["music", "rain"],
        "a column with its own index": pandas.Series(["music", "rain"]),
    }
    for kind, names in named.items():
        model = tiny_classifier(tiny).fit(TEXTS, [1, 1, 0, 0], names)
        assert model.task_.class_names == ("music", "rain"), kind


def test_labels_can_be_said_to_have_no_names(tiny):
    one, two = (
        tiny_classifier(tiny).fit(TEXTS, [label] * 2 + ["music"] * 2, "none").predict_proba(TEXTS)
        for label in ("rain", "snow")
    )
    assert one == pytest.approx(two[:, ::-1], abs=1e-9) or one == pytest.approx(two, abs=1e-9)


def test_booleans_and_floats_have_no_names(tiny):
    numbers, booleans, floats = (
        tiny_classifier(tiny).fit(TEXTS, labels).predict_proba(TEXTS)
        for labels in ([0, 0, 1, 1], [False, False, True, True], [0.0, 0.0, 1.0, 1.0])
    )
    assert np.array_equal(numbers, booleans) and np.array_equal(numbers, floats)


def test_labels_that_are_almost_the_same_are_named_in_a_warning(tiny, caplog):
    tiny_classifier(tiny).fit(TEXTS, ["delivery", "delivery ", "Delivery", "refund"])
    assert "almost the same name: 'Delivery', 'delivery', 'delivery '" in caplog.text


NAMED: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "booleans and a list": ([True, True, False, False], ["no", "yes"], [False, True]),
    "booleans and an array": ([True, True, False, False], np.array(["no", "yes"]), [False, True]),
    "floats and a mapping": ([1.0, 1.0, 2.0, 2.0], {1: "rain", 2: "music"}, [1.0, 2.0]),
    "an enum and a mapping of its values": ([Code.RAIN] * 2 + [Code.MUSIC] * 2, {7: "rain", 3: "music"}, [3, 7]),
    "numbers of numpy and a name more": ([np.int8(0)] * 2 + [np.int8(1)] * 2, ["rain", "music", "order"], [0, 1, 2]),
}


@pytest.mark.parametrize("kind", NAMED)
def test_labels_with_names_keep_their_type(tiny, kind):
    labels, names, classes = NAMED[kind]
    model = tiny_classifier(tiny).fit(TEXTS, labels, names)
    assert model.classes_.tolist() == classes
    assert {type(label) for label in model.predict(TEXTS)} <= {type(label) for label in [*labels, *np.array(labels)]}


def test_a_class_that_has_no_label_of_the_type_is_refused(tiny):
    with refused("The class 2", "type bool"):
        tiny_classifier(tiny).fit(TEXTS, [True, True, False, False], ["no", "yes", "perhaps"])


@pytest.mark.parametrize("labels", [{"rain", "music"}, {0: "rain", 1: "music"}, pandas.DataFrame({"a": ["x", "y"]})])
def test_labels_without_an_order_and_tables_are_refused(tiny, labels):
    with refused("labels must be a list"):
        tiny_classifier(tiny).fit(TEXTS[:2], labels)


def test_classes_without_texts_need_names_that_say_something(tiny):
    with refused("neither a text nor a name", "'LABEL_3'"):
        tiny_classifier(tiny).fit(TEXTS, ["rain", "rain", "music", "music"], ["rain", "music", "LABEL_3"])
