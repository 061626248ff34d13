"""Recognition of unknown texts: what it is computed from, how it is learned, and what a classifier does with it."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from classifiers import LABELS, NEW_TEXTS, REAL_LABELS, REAL_TEXTS, TEXTS
from commands import refusal
from running import refused
from sklearn.metrics import roc_auc_score
from tiny import tiny_episodes

from episodes import Corpus, EpisodeSampler
from metawarp import Init, WarpClassifier
from metawarp.adaptation.recognition import Recognition, class_means_and_usual_scores, scores
from metawarp.adaptation.start import read_texts, start
from metawarp.cli import main
from metawarp.evaluation.recognition import best_recognition
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch

OTHER_TEXTS = ["how tall is the eiffel tower", "my cat likes the warm windowsill", "rain until friday"]
"""Texts of none of the classes delivery, refund and bug."""


# Episodes and scores --------------------------------------------------------------------------------------


def test_an_episode_leaves_out_classes_whose_queries_become_unknown():
    (episode,) = tiny_episodes(1, n_way=3)
    smaller = episode.with_unknown(1)
    assert smaller.class_names == episode.class_names[:2]
    assert smaller.unknown_texts == tuple(
        text for text, label in zip(episode.query_texts, episode.query_labels, strict=True) if label == 2
    )
    assert set(smaller.query) | set(smaller.unknown) == set(episode.query)
    assert set(smaller.support) < set(episode.support)
    with refused("Of 3 classes, 2 cannot be left out: at least 2 have to stay"):
        episode.with_unknown(2)


def test_the_scores_of_an_example_are_those_without_the_example(tiny):
    init = WarpClassifier("general", tiny).fit(TEXTS, LABELS).task_.init
    warp = init.bind(tiny)
    (episode,) = tiny_episodes(1, n_way=3)
    tasks = TaskBatch.encode([episode], warp.encoder)
    with torch.no_grad():
        parameters, examples = start(warp, init.on(tiny), tasks)
        means, usual = class_means_and_usual_scores(warp, parameters, tasks, examples)
        support = read_texts(warp, parameters, tasks.support)
        logits = warp.verbalizer.logits(support, parameters.class_embeddings[0], parameters.scale)
    found = scores(means[0], support, logits)
    assert usual[0, 0] == pytest.approx(float(found[:, 0].mean()))
    assert examples.names is not None
    cosines = []
    for row, label in enumerate(tasks.support.label.tolist()):
        sums = examples.names.clone()
        for other, its in enumerate(tasks.support.label.tolist()):
            sums[its] += support[other] * (other != row)
        cosines.append(float(torch.cosine_similarity(sums, support[row], dim=-1).max()))
        assert cosines[-1] < found[row, 1] + 1e-9 or label not in tasks.support.label[:row]
    assert usual[0, 1] == pytest.approx(np.mean(cosines))


def test_tasks_beside_each_other_have_the_same_scores_as_alone(tiny):
    init = WarpClassifier("general", tiny).fit(TEXTS, LABELS).task_.init
    warp, recognition = init.bind(tiny), Recognition(0.5, 0.1, 0.2, (0, 5), (2, 9), by_logit=0.2, by_cosine=3.0)
    episodes = [*tiny_episodes(1, n_way=3), *tiny_episodes(1, n_way=2, seed=1)]

    def coefficients(chosen):
        tasks = TaskBatch.encode(chosen, warp.encoder)
        with torch.no_grad():
            parameters, examples = start(warp, init.on(tiny), tasks)
            recognized = recognition.of(warp, parameters, tasks, examples).recognition
        assert recognized is not None
        return recognized

    alone = torch.cat([coefficients([episode]) for episode in episodes])
    torch.testing.assert_close(coefficients(episodes), alone)
    assert alone[:, :2].tolist() == [[pytest.approx(0.2), pytest.approx(3.0)]] * 2


@pytest.mark.parametrize("wrong", [{"base": float("nan")}, {"by_logit": 2000.0}, {"shots": (3.0, 1.0)}])
def test_wrong_coefficients_are_refused(wrong):
    with refused(next(iter(wrong))):
        Recognition(**{"base": 0.0, "by_logit": 1.0, "by_cosine": 1.0, **wrong})


def test_recognition_is_learned_from_episodes_with_classes_that_are_left_out(minilm):
    everyday = Corpus.load("everyday")
    sampler = EpisodeSampler(everyday.split_classes("everyday").validation, (3, 12), (0, 4), 3)
    general = Init.from_pretrained("general")
    warp = general.bind(minilm, cache=FeatureCache())
    learned = best_recognition(warp, general, [sampler[i] for i in range(20)])
    assert learned is not None and learned.by_logit > 0 and learned.by_cosine > 0
    assert learned.ways[0] >= 2 and learned.ways[1] <= 12
    classifier = WarpClassifier(replace(general, recognition=learned), minilm).fit(REAL_TEXTS, REAL_LABELS)
    known = classifier.known_proba([*NEW_TEXTS, *OTHER_TEXTS])
    assert roc_auc_score([1] * len(NEW_TEXTS) + [0] * len(OTHER_TEXTS), known) == 1.0


def test_nothing_is_learned_without_a_third_class(minilm):
    general = Init.from_pretrained("general")
    assert best_recognition(general.bind(minilm), general, tiny_episodes(2, n_way=2)) is None


# Classifiers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(minilm) -> WarpClassifier:
    """A classifier that rejects unknown texts, fitted to real texts."""
    return WarpClassifier("general", minilm, reject=0.5).fit(REAL_TEXTS, REAL_LABELS)


def test_unknown_texts_are_rejected_and_probabilities_stay_those_of_the_classes(model, minilm):
    known = model.known_proba([*NEW_TEXTS, *OTHER_TEXTS])
    assert ((known >= 0) & (known <= 1)).all()
    assert known[: len(NEW_TEXTS)].min() > known[len(NEW_TEXTS) :].max()
    predicted = model.predict([*NEW_TEXTS, *OTHER_TEXTS])
    assert [label == "unknown" for label in predicted] == (known < 0.5).tolist()
    assert "unknown" in predicted
    without = WarpClassifier("general", minilm).fit(REAL_TEXTS, REAL_LABELS)
    assert "unknown" not in without.predict(OTHER_TEXTS)
    assert np.array_equal(without.predict_proba(OTHER_TEXTS), model.predict_proba(OTHER_TEXTS))
    assert np.allclose(model.predict_proba(OTHER_TEXTS).sum(1), 1)


def test_texts_without_content_are_unknown_and_equally_likely_in_all_classes(model):
    blanks = ["", "  \n", "\u200b"]
    assert model.known_proba(blanks).tolist() == [0.0] * 3
    assert model.predict(blanks).tolist() == ["unknown"] * 3
    assert model.predict_proba(blanks) == pytest.approx(np.full((3, 3), 1 / 3))
    with refused("text"):
        WarpClassifier("general").fit(["", "a text"], ["delivery", "refund"])


def test_examples_of_unknown_texts_are_no_class_and_make_similar_texts_unknown(model, minilm, caplog):
    more = ["how high is the mont blanc", "how tall is the tower of pisa"]
    with caplog.at_level(logging.INFO):
        taught = WarpClassifier("general", minilm, reject=0.5).fit(
            [*REAL_TEXTS, *more], [*REAL_LABELS, "unknown", "unknown"]
        )
    assert "2 texts have the label 'unknown': they belong to no class" in caplog.text
    assert taught.classes_.tolist() == ["bug", "delivery", "refund"]
    assert taught.predict_proba(OTHER_TEXTS).shape == (3, 3)
    assert taught.known_proba(OTHER_TEXTS[:1])[0] < 0.5 * model.known_proba(OTHER_TEXTS[:1])[0]
    assert taught.predict(NEW_TEXTS).tolist() == ["delivery", "refund", "bug"]


@pytest.mark.parametrize(
    ("labels", "unknown", "expected"),
    [
        ([3, 3, 5, 5, 9, 9], -1, [-1]),
        ([3, 3, 5, 5, 9, 9], "unknown", ["unknown"]),
        (REAL_LABELS, "none of them", ["none of them"]),
    ],
)
def test_the_label_of_unknown_texts_can_be_chosen_and_is_saved(minilm, tmp_path, labels, unknown, expected):
    model = WarpClassifier("general", minilm, reject=1.0, unknown=unknown).fit(REAL_TEXTS, labels)
    assert model.predict(OTHER_TEXTS[:1]).tolist() == expected
    model.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", minilm)
    assert (loaded.reject, loaded.unknown) == (1.0, unknown)
    assert loaded.predict(OTHER_TEXTS[:1]).tolist() == expected
    assert np.array_equal(loaded.known_proba(OTHER_TEXTS), model.known_proba(OTHER_TEXTS))


def test_a_saved_task_keeps_its_examples_of_unknown_texts(minilm, tmp_path):
    model = WarpClassifier("general", minilm).fit([*REAL_TEXTS, OTHER_TEXTS[0]], [*REAL_LABELS, "unknown"])
    model.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", minilm)
    assert np.array_equal(loaded.known_proba(OTHER_TEXTS), model.known_proba(OTHER_TEXTS))
    assert np.array_equal(loaded.predict_proba(NEW_TEXTS), model.predict_proba(NEW_TEXTS))


def test_an_init_that_has_not_learned_it_is_refused(minilm):
    older = replace(Init.from_pretrained("general"), recognition=None)
    with refused("reject=0.5 needs a task that recognizes unknown texts", "fit from an init of this release"):
        WarpClassifier(older, minilm, reject=0.5).fit(REAL_TEXTS, REAL_LABELS)
    with refused("The label 'unknown' needs a task that recognizes unknown texts"):
        WarpClassifier(older, minilm).fit([*REAL_TEXTS, "hello"], [*REAL_LABELS, "unknown"])
    with refused("This task does not recognize unknown texts"):
        WarpClassifier(older, minilm).fit(REAL_TEXTS, REAL_LABELS).known_proba(NEW_TEXTS)


@pytest.mark.parametrize("reject", [-0.1, 1.5, float("nan"), "half"])
def test_what_is_no_probability_is_refused(minilm, reject):
    with refused(f"reject={reject!r} must be a probability from 0 to 1"):
        WarpClassifier("general", minilm, reject=reject).fit(REAL_TEXTS, REAL_LABELS)


def test_the_command_line_rejects_texts_and_says_how_likely_they_are_known(model, tmp_path, capsys):
    model.save(tmp_path / "task")
    texts = [f"--text={text}" for text in (NEW_TEXTS[0], OTHER_TEXTS[1], "")]
    main(["predict", f"--task={tmp_path / 'task'}", "--reject=0.5", *texts])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == ["delivery", "unknown", "unknown"]
    assert lines[2]["known"] == 0
    assert lines[0]["known"] == pytest.approx(model.known_proba(NEW_TEXTS[:1])[0], abs=1e-5)
    table = tmp_path / "table.csv"
    main(["predict", f"--task={tmp_path / 'task'}", f"--output={table}", *texts])
    rows = table.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "text,label,probability,known"
    assert [row.split(",")[1] for row in rows[1:]] == ["delivery", "unknown", "unknown"]
    refusal(capsys, ["predict", f"--task={tmp_path / 'task'}", "--reject=2", "--text=a"], "must be a probability")


def test_the_label_of_unknown_texts_is_an_option_of_fit(tmp_path, capsys):
    rows = [*zip(REAL_TEXTS, REAL_LABELS, strict=True), (OTHER_TEXTS[0], "else")]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder, options = tmp_path / "task", ["--init=general", "--reject=0.5", "--unknown=else"]
    main(["fit", f"--data={tmp_path / 'few.jsonl'}", f"--output={folder}", *options])
    assert "3 classes: bug, delivery, refund" in capsys.readouterr().out
    main(["predict", f"--task={folder}", f"--text={OTHER_TEXTS[0]}"])
    assert json.loads(capsys.readouterr().out)["label"] == "else"
