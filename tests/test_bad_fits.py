"""Texts, labels and names that cannot be fitted or predicted, and unusual ones that can."""

import math
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy as np
import pandas
import pytest
from classifiers import LABELS, TEXTS, tiny_classifier
from running import refused
from tiny import UNUSUAL_TEXTS

from metawarp import WarpClassifier

TWO = ["a text", "another"]


class Topic(StrEnum):
    MUSIC = "music"
    WEATHER = "weather"


class Number(IntEnum):
    ONE = 1


class Plain(Enum):
    MUSIC = 1
    WEATHER = 2


BAD_FITS: dict[str, tuple[tuple[Any, ...], list[str]]] = {
    "one string": (("a text", ["a"]), ["texts", "'a text'"]),
    "no texts": ((None, ["a"]), ["texts", "NoneType"]),
    "no labels": ((["a text"], None), ["labels", "NoneType"]),
    "one label": ((["a text"], "a"), ["labels", "str"]),
    "lengths": ((TWO, ["a"]), ["2 texts", "1 labels"]),
    "one class": ((TWO, ["a", "a"]), ["at least 2 classes", "1", "['a']"]),
    "nothing": (([], []), ["at least 2 classes", "0"]),
    "a data frame": ((pandas.DataFrame({"text": TWO}), ["a", "b"]), ["texts", 'table["text"]', "DataFrame"]),
    "a mapping": (({"text": ["a text"], "label": ["a"]}, ["a", "b"]), ["texts", 'table["text"]', "dict"]),
    "empty texts": ((["a text", "", " \n"], ["a", "b", "b"]), ["texts", "row 2 is empty, row 3 is empty"]),
    "missing texts": (
        (["a text", None, math.nan, 5], ["a", "b", "b", "a"]),
        ["texts", "row 2 is missing, row 3 is missing, row 4", "int"],
    ),
    "missing texts in a series": ((pandas.Series(["a text", None, "b"]), ["a", "b", "b"]), ["row 2 is missing"]),
    "mixed labels": ((TWO, ["a", 1]), ["labels", "type int, str"]),
    "missing labels": ((TWO, ["a", None]), ["labels are missing in row 2"]),
    "labels that are not a number": ((TWO, [math.nan, "a"]), ["labels are missing in row 1"]),
    "labels that pandas lacks": ((TWO, pandas.Series(["a", pandas.NA])), ["labels are missing in row 2"]),
    "dates that pandas lacks": ((TWO, [pandas.NaT, "a"]), ["labels are missing in row 1"]),
    "fractions": ((TWO, np.array([0.0, 1.5])), ["labels", "whole numbers", "1.5) (row 2) is of type float64"]),
    "lists": ((TWO, [["a"], ["b"]]), ["labels", "['a'] (row 1) is of type list"]),
    "members of an enum that cannot be sorted": ((TWO, list(Plain)), ["labels", "row 1", "type Plain"]),
    "booleans and integers": ((TWO, [True, 2]), ["labels", "type bool, int"]),
    "members of two enums": ((TWO, [Topic.MUSIC, Number.ONE]), ["labels", "type Number, Topic"]),
    "half a surrogate pair in a name": ((TWO, ["a", "\ud83d"]), ["class names", "valid Unicode", "'\\ud83d'"]),
    "a set of names": ((TWO, ["a", "b"], {"a", "b"}), ["class_names", "set", "order"]),
    "a number for names": ((TWO, ["a", "b"], 5), ["class_names", "list of names", "not 5"]),
    "a list among the names": ((TWO, ["a", "b"], ["a", "b", ["c"]]), ["class_names", "['c']"]),
    "a column with a label twice": ((TWO, [0, 1], pandas.Series(["a", "b"], [0, 0])), ["class_names", "several names"]),
    "unknown strings": ((TWO, ["a", "c"], ["a", "b"]), ["labels ['c']", "class_names", "['a', 'b']"]),
    "unknown integers": ((TWO, [0, 2], ["a", "b"]), ["labels [2]", "class_names", "[0, 1]"]),
    "not in the mapping": ((TWO, [0, 1], {0: "a", 5: "b"}), ["labels [1]", "class_names", "[0, 5]"]),
    "one string for names": (([], [], "ab"), ["class_names", "'ab'"]),
    "a mapping of mixed labels": (([], [], {0: "a", "x": "b"}), ["labels", "type int, str"]),
    "names twice": (([], [], ["a", "b", "a"]), ["class names", "twice", "'a'"]),
    "an empty name": (([], [], ["a", " "]), ["class names", "non-empty strings", "' '"]),
    "a name that is none": (([], [], {0: "a", 1: None}), ["class names", "non-empty strings", "None"]),
}


@pytest.mark.parametrize("name", BAD_FITS)
def test_data_that_cannot_be_fitted_is_refused(tiny, name):
    arguments, facts = BAD_FITS[name]
    with refused(*facts):
        tiny_classifier(tiny).fit(*arguments)


def test_texts_that_cannot_be_predicted_are_refused(tiny):
    model = tiny_classifier(tiny).fit(TEXTS, LABELS)
    with refused("texts", "'rain'"):
        model.predict("rain")
    with refused("texts", "row 3 is missing, row 4 is of type int"):
        model.predict_proba(["a", "", None, 5])  # pyright: ignore[reportArgumentType]


def test_impossible_inner_steps_are_refused(tiny):
    with refused("adapt=-1", "at least 0"):
        WarpClassifier(tiny_classifier(tiny).init, tiny, adapt=-1).fit(TEXTS, LABELS)
    with refused("adapt=2", "'none'"):
        WarpClassifier("general", tiny, adapt=2).fit(TEXTS, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("text", UNUSUAL_TEXTS, ids=range(len(UNUSUAL_TEXTS)))
def test_unusual_texts_and_names_work(minilm, text):
    model = WarpClassifier(backbone=minilm).fit([text, "cold rain"], ["odd", "weather"])
    probabilities = model.predict_proba([text, "it rains", "a"])
    assert np.isfinite(probabilities).all()
    assert probabilities[0].argmax() == 0
    named = WarpClassifier(backbone=minilm).fit(["some text", "cold rain"], [f"odd {text}", "weather"])
    assert named.predict(["it rains all day, what a weather"]).tolist() == ["weather"]
    assert np.isfinite(named.predict_proba([text])).all()


def test_names_that_the_tokenizer_does_not_know_are_refused(minilm):
    model = WarpClassifier(backbone=minilm)
    with refused("class names", r"'\u200b', '🌧'"):
        model.fit(["cold rain"], ["weather"], ["🌧", "weather", "\u200b"])
    with refused("class names", "'🌧'"):
        model.fit(["play music", "cold rain"], ["music", "🌧"])
    model.fit(["play music", "cold rain"], ["music", "🌧"], {"music": "music", "🌧": "weather 🌧"})
    assert model.predict(["it rains"]).tolist() == ["🌧"]


def test_a_warning_says_how_many_texts_lose_their_end(tiny, caplog):
    texts = ["rain " * 200, "bank card", "sun " * 300]
    WarpClassifier("untrained", tiny).fit(texts, ["weather", "money", "weather"])
    (message,) = caplog.messages
    assert "2 of 3 texts" in message and "158 tokens" in message and "max_length" in message
