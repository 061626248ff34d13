"""Fits with unlabelled texts: which of them are used, and where they can be given."""

import json
import logging

import numpy as np
import pytest
import torch
from classifiers import LABELS, TEXTS
from commands import refusal
from running import refused

from episodes import Corpus
from metawarp import WarpClassifier, evaluate
from metawarp.cli import main
from metawarp.tasks.examples import Examples
from metawarp.tasks.pool_warnings import PoolRecord, warn_about_pool

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
    # Texts of other lengths in the same batch may change the last bits.
    np.testing.assert_allclose(fitted.predict_proba([*POOL, *TEXTS])[len(POOL) :], found, rtol=1e-9)
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


def test_a_pool_smaller_than_the_number_of_classes_is_used(regression):
    names = ["bank", "music", "order", "weather", "travel"]
    without = regression.fit([], [], names).predict_proba(TEXTS)
    for number in (1, 2):
        found = regression.fit([], [], names, unlabelled=POOL[:number]).predict_proba(TEXTS)
        assert np.isfinite(found).all() and np.abs(found - without).max() > 1e-4
    assert np.isfinite(regression.fit(TEXTS, LABELS, unlabelled=POOL[:1]).predict_proba(TEXTS)).all()


@pytest.mark.parametrize(
    ("n_texts", "n_labelled", "shares", "unlike", "message"),
    [
        (60, 20, [0.5, 0.49, 0.01], 0.0, "almost no unlabelled text seems to belong to these classes: 'c'"),
        (59, 20, [0.5, 0.49, 0.01], 0.0, ""),
        (60, 20, [0.5, 0.4, 0.1], 0.6, ""),
        (60, 20, [0.5, 0.49, 0.01], 0.7, "70 % of the unlabelled texts are unlike every labelled text"),
        (60, 19, [0.5, 0.4, 0.1], 0.7, ""),
    ],
)
def test_a_pool_that_looks_wrong_is_warned_about(caplog, n_texts, n_labelled, shares, unlike, message):
    warn_about_pool(PoolRecord(n_texts, n_labelled, torch.tensor(shares), unlike), ["a", "b", "c"])
    assert message in caplog.text and len(caplog.records) == bool(message)


def test_texts_are_unlike_if_they_are_far_from_all_labelled_ones():
    support = torch.eye(6)[:4] + torch.eye(6)[3]
    near, far = support + 0.1, torch.eye(6)[4:].repeat(3, 1)
    for unlabelled, expected in ((near, 0.0), (far, 1.0), (torch.cat([near, far]), 0.6)):
        logits = torch.zeros(len(unlabelled), 2)
        record = PoolRecord.of(logits, unlabelled, support)
        assert record.unlike == pytest.approx(expected) and record.shares.tolist() == [0.5, 0.5]
    assert PoolRecord.of(torch.zeros(4, 2), near, None).unlike == 0


def test_a_fit_warns_about_a_pool_of_another_kind(minilm, caplog):
    corpus = Corpus.load("everyday")
    rows = [row for c in range(4) for row in corpus.rows_of(c)]
    texts, labels = [corpus.texts[row] for row in rows], [corpus.class_names[corpus.labels[row]] for row in rows]
    few, others = slice(0, None, 2), texts[1::2]
    model = WarpClassifier("general", minilm)
    model.fit(texts[few], labels[few], unlabelled=others)
    assert "unlike" not in caplog.text
    model.fit(texts[few], labels[few], unlabelled=[f"sonata no. {i} in the key of c minor" for i in range(30)])
    assert "100 % of the unlabelled texts are unlike every labelled text" in caplog.text


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
