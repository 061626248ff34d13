"""Fits with unlabelled texts: which of them are used, and where they can be given."""

import json
import logging

import numpy as np
import pytest
from classifiers import LABELS, TEXTS
from commands import refusal
from running import refused

from metawarp import WarpClassifier, evaluate
from metawarp.cli import main
from metawarp.tasks.examples import Examples

POOL = ["a bank account", "music and songs", "my order", "the order of songs", "money in the bank"]


@pytest.fixture
def regression(tiny) -> WarpClassifier:
    """A classifier that is not fitted, whose class embeddings are those of a regression."""
    return WarpClassifier("general", tiny)


def test_unlabelled_texts_change_a_task_and_predictions_stay_inductive(regression):
    without = regression.fit(TEXTS, LABELS).predict_proba(TEXTS)
    fitted = regression.fit(TEXTS, LABELS, unlabelled=POOL)
    found = fitted.predict_proba(TEXTS)
    assert np.abs(found - without).max() > 1e-3
    assert np.array_equal(fitted.predict_proba([*POOL, *TEXTS])[len(POOL) :], found)
    assert np.array_equal(regression.fit(TEXTS, LABELS, unlabelled=[]).predict_proba(TEXTS), without)
    assert np.array_equal(regression.fit(TEXTS, LABELS, unlabelled=POOL).predict_proba(TEXTS), found)


def test_a_task_from_names_alone_uses_unlabelled_texts(regression):
    names = ["bank", "music", "order"]
    without = regression.fit([], [], names).predict_proba(POOL)
    assert np.abs(regression.fit([], [], names, unlabelled=POOL).predict_proba(POOL) - without).max() > 1e-3


def test_useless_unlabelled_texts_are_dropped_and_counted(caplog):
    with caplog.at_level(logging.INFO):
        pool = Examples.of(TEXTS, LABELS, None, [POOL[0], f" {POOL[0]}", "", "\u200b", TEXTS[0], POOL[1]]).episode
    assert pool.unlabelled_texts == (POOL[0], POOL[1])
    for message in ("dropped 2 of 6 unlabelled texts without content", "1 of 6 unlabelled texts that appear twice"):
        assert message in caplog.text
    assert "1 of 6 unlabelled texts that are labelled" in caplog.text


@pytest.mark.parametrize("pool", ["one text", {"a": 1}, [["a"]], 5])
def test_what_is_no_list_of_texts_is_refused(regression, pool):
    with refused("texts"):
        regression.fit(TEXTS, LABELS, unlabelled=pool)


def test_a_verbalizer_that_does_not_use_them_gives_the_same_task(tiny):
    model = WarpClassifier("untrained", tiny)
    expected = model.fit(TEXTS, LABELS).predict_proba(POOL)
    assert np.array_equal(model.fit(TEXTS, LABELS, unlabelled=POOL).predict_proba(POOL), expected)


def test_a_saved_task_does_not_need_them(regression, tiny, tmp_path):
    fitted = regression.fit(TEXTS, LABELS, unlabelled=POOL)
    fitted.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", tiny)
    assert np.array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_the_command_line_reads_them_from_a_file(capsys, made, tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("text,label\nmusic now,music\nrain today,weather\n")
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*POOL, None]))
    fit = ["fit", "--init=general", f"--backbone={made}/backbone", f"--data={few}"]
    weights = []
    for name, more in {"with": [f"--unlabelled={tmp_path}/pool.jsonl"], "without": []}.items():
        main([*fit, *more, f"--output={tmp_path}/{name}"])
        weights.append((tmp_path / name / "task.safetensors").read_bytes())
    assert weights[0] != weights[1]
    capsys.readouterr()
    refusal(capsys, [*fit, "--unlabelled=none.csv", f"--output={tmp_path}/x"], "none.csv")


def test_an_evaluation_measures_what_they_are_worth(tiny):
    options = {"backbone": tiny, "split": "all", "n_way": 3, "n_query": 2, "episodes": 8, "baselines": ["none"]}
    plain, same = (evaluate("general", "everyday", **options, n_unlabelled=0) for _ in range(2))
    found = evaluate("general", "everyday", **options, n_unlabelled=12, distractors=0.25, skew=3)
    accuracies = [one["methods"]["metawarp"]["per_episode"] for one in (plain, same, found)]
    assert accuracies[0] == accuracies[1] != accuracies[2]
    assert (found["protocol"]["n_unlabelled"], found["protocol"]["distractors"], found["protocol"]["skew"]) == (
        12,
        0.25,
        3,
    )
