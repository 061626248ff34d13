"""Texts, labels and names that cannot be fitted or predicted, and unusual ones that can."""

import math
from typing import Any

import numpy as np
import pandas
import pytest
from classifiers import LABELS, TEXTS, tiny_classifier
from running import refused
from tiny import UNUSUAL_TEXTS

from metawarp import WarpClassifier

TWO = ["a text", "another"]
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
    "missing labels": ((TWO, ["a", None]), ["labels", "type NoneType, str"]),
    "labels that are not a number": ((TWO, ["a", math.nan]), ["labels", "type float, str"]),
    "floats": ((TWO, np.array([0.0, 1.0])), ["labels", "type float"]),
    "booleans": ((TWO, [True, False]), ["labels", "type bool"]),
    "unknown strings": ((TWO, ["a", "c"], ["a", "b"]), ["labels ['c']", "class_names", "['a', 'b']"]),
    "unknown integers": ((TWO, [0, 2], ["a", "b"]), ["labels [2]", "class_names", "[0, 1]"]),
    "not in the mapping": ((TWO, [0, 1], {0: "a", 5: "b"}), ["labels [1]", "class_names", "[0, 5]"]),
    "one string for names": (([], [], "ab"), ["class_names", "'ab'"]),
    "a mapping of mixed labels": (([], [], {0: "a", "x": "b"}), ["labels", "type int, str"]),
    "names twice": (([], [], ["a", "b", "a"]), ["class names", "twice", "'a'"]),
    "an empty name": (([], [], ["a", " "]), ["class names", "empty: 1."]),
    "a name that is none": (([], [], {0: "a", 1: None}), ["class names", "empty: 1."]),
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
    with refused("texts", "row 2 is empty, row 3 is missing"):
        model.predict_proba(["a", "", None])  # pyright: ignore[reportArgumentType]


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
    with refused("class names", r"'🌧', '\u200b'"):
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
