"""Evaluation: independent queries, the same episodes for all methods, scores, intervals and the file of results."""

import json
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from running import refused, write_rows
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score
from tiny import assert_queries_are_independent, tiny_corpus

from episodes import Corpus, EpisodeSampler
from metawarp import Init, Warp, WarpConfig, evaluate
from metawarp.config import GROUPS, InnerLoop
from metawarp.evaluation.evaluate import classes_seen_in_training
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import compare, holm, interval, p_value, score
from metawarp.inits.defaults import untrained

SMALL: dict[str, Any] = {"n_way": 2, "k_shot": 1, "n_query": 2, "episodes": 2}
CONFIG = WarpConfig(template="{prompt:2} {text} {mask}")
INNERS = {
    "no steps": InnerLoop(),
    "class embeddings": InnerLoop(2, ("class_embeddings",)),
    "both": InnerLoop(2, GROUPS),
}


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus()


@pytest.fixture(scope="module")
def file(corpus, tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("corpus") / "tiny.jsonl", corpus)


@pytest.fixture
def sampler(corpus):
    return EpisodeSampler(corpus, n_way=3, k_shot=(1, 3), n_query=4, balanced=False)


def predictor_of(tiny, inner):
    warp = Warp(tiny, CONFIG)
    return metawarp_predictor(warp, Init.start(warp, inner).on(tiny), inner)


def cheating(seed, share):
    """Right answers but for a share of random ones that are a function of the query texts."""

    def predict(episodes):
        for episode in episodes:
            draws = [np.random.default_rng([seed, *text.encode()]).random(2) for text in episode.query_texts]
            pairs = zip(episode.query_labels, draws, strict=True)
            yield np.eye(episode.n_way)[[y if d[0] >= share else int(d[1] * episode.n_way) for y, d in pairs]]

    return predict


# Predictions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", INNERS)
def test_queries_are_predicted_independently(tiny, sampler, inner):
    assert_queries_are_independent(predictor_of(tiny, INNERS[inner]), sampler[0])


@pytest.mark.parametrize("inner", INNERS)
def test_episodes_of_a_batch_are_predicted_as_they_would_be_alone(tiny, corpus, inner):
    predict = predictor_of(tiny, INNERS[inner])
    sizes = ((2, 1), (5, 3), (4, 0))
    episodes = [EpisodeSampler(corpus, n_way, k_shot, 3)[i] for i in range(2) for n_way, k_shot in sizes]
    for episode, probabilities in zip(episodes, predict(episodes), strict=True):
        assert probabilities == pytest.approx(next(predict([episode])), abs=1e-8)
        assert probabilities.sum(1) == pytest.approx(1)


# Numbers --------------------------------------------------------------------------------------------------


def test_the_interval_is_the_95_percent_confidence_interval_of_the_mean():
    values = np.random.default_rng(0).random(50)
    assert interval(values) == pytest.approx(1.959964 * np.sqrt(values.var(ddof=1) / 50), rel=1e-12)
    assert interval(np.full(10, 0.25)) == 0
    draws = np.random.default_rng(0).normal(0.7, 0.1, size=(2000, 100))
    assert 0.93 < np.mean([abs(draw.mean() - 0.7) < interval(draw) for draw in draws]) < 0.97


def test_scores_are_accuracy_and_the_macro_f1_of_sklearn(sampler):
    predict, n = cheating(1, 0.6), 25
    scores = score(predict, sampler, n)
    for i in range(n):
        episode = sampler[i]
        predicted = next(predict([episode])).argmax(1)
        assert scores.accuracy[i] == np.mean(predicted == episode.query_labels)
        with warnings.catch_warnings(action="ignore", category=UndefinedMetricWarning):  # a class is never predicted
            expected = f1_score(episode.query_labels, predicted, labels=[0, 1, 2], average="macro")
        assert scores.macro_f1[i] == pytest.approx(expected)
    summary = scores.summary()
    assert summary["accuracy"] == pytest.approx(np.mean(scores.accuracy))
    assert summary["macro_f1"] == pytest.approx(np.mean(scores.macro_f1))
    assert summary["ci95"] == interval(scores.accuracy)
    assert summary["per_episode"] == scores.accuracy.tolist()


def test_paired_differences_are_taken_episode_by_episode(sampler):
    found = compare({"a": cheating(1, 0.2), "b": cheating(2, 0.5), "c": cheating(1, 0.2)}, sampler, 30)
    assert list(found["methods"]) == ["a", "b", "c"]
    assert list(found["paired"]) == ["a - b", "a - c"]
    a, b = (np.array(found["methods"][name]["per_episode"]) for name in "ab")
    assert len(a) == len(b) == 30
    assert found["paired"]["a - b"]["difference"] == pytest.approx(np.mean(a - b))
    assert found["paired"]["a - b"]["ci95"] == pytest.approx(1.959964 * np.std(a - b, ddof=1) / np.sqrt(30))
    assert found["paired"]["a - b"]["difference"] > 0
    assert found["paired"]["a - c"] == {"difference": 0, "ci95": 0, "p_holm": 1}


def test_every_method_sees_the_same_episodes(sampler):
    seen = {"a": [], "b": []}

    def recording(name, episodes):
        seen[name] += [(e.class_names, e.support_texts, e.query_texts, e.query_labels.tolist()) for e in episodes]
        return cheating(0, 0.0)(episodes)

    results = compare({name: partial(recording, name) for name in seen}, sampler, 26)
    assert len(seen["a"]) == 26 and seen["a"] == seen["b"]
    assert results["methods"]["a"]["accuracy"] == results["methods"]["a"]["macro_f1"] == 1.0


# Results of `metawarp evaluate` ---------------------------------------------------------------------------


def test_results_and_the_file_hold_the_protocol_the_methods_and_paired_differences(tiny, file, tmp_path):
    init = Init.start(Warp(tiny, CONFIG), InnerLoop(1, ("class_embeddings",)), method="anil")
    digest = init.save(tmp_path / "init")
    output = tmp_path / "new" / "results.json"
    found = evaluate(str(tmp_path / "init"), str(file), backbone=tiny, split="all", output=str(output), **SMALL)
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert list(found) == ["protocol", "methods", "paired"]
    names = ["prototypes", "prototypes+names", "logistic-regression", "tuned-class-embeddings", "repverb"]
    names += ["warp-random", "warp-mask"]
    assert list(found["methods"]) == ["metawarp", *names]
    assert list(found["paired"]) == [f"metawarp - {name}" for name in names]
    for method in found["methods"].values():
        assert list(method) == ["accuracy", "ci95", "macro_f1", "calibration_error", "per_episode"]
        assert method["accuracy"] == pytest.approx(np.mean(method["per_episode"])) and len(method["per_episode"]) == 2
    assert all(list(pair) == ["difference", "ci95", "p_holm"] for pair in found["paired"].values())
    protocol = found["protocol"]
    expected = {"corpus": str(file), "split": "all", **SMALL, "seed": 0, "init_sha256": digest}
    assert expected.items() <= protocol.items()
    assert protocol["classes"] == sorted(tiny_corpus().class_names)
    assert protocol["backbone"]["fingerprint"] == tiny.fingerprint
    assert {"metawarp", "torch", "transformers", "numpy"} <= protocol["versions"].keys()


def test_the_same_evaluation_twice_gives_the_same_file(tiny, file, tmp_path):
    init = Init.start(Warp(tiny, CONFIG), INNERS["both"], method="maml")
    names = ["prototypes", "warp-random"]
    settings = SMALL | {"backbone": tiny, "split": "all", "episodes": 4, "baselines": names}
    one, two, other = (
        evaluate(init, str(file), output=f"{tmp_path}/{i}.json", seed=seed, **settings)
        for i, seed in enumerate((0, 0, 1))
    )
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes() and one == two
    assert other["methods"]["prototypes"]["per_episode"] != one["methods"]["prototypes"]["per_episode"]


def test_a_warning_names_the_classes_that_the_init_was_trained_on(tiny, corpus, caplog):
    names = list(corpus.class_names)
    trained_on = {"train": names[:3], "validation": ["elsewhere", names[4]]}
    init = replace(untrained(tiny), training={"class_names": trained_on})
    settings = SMALL | {"backbone": tiny, "baselines": ["none"]}
    with caplog.at_level("WARNING"):
        seen = evaluate(init, corpus, split="all", **settings)["protocol"]["classes_seen_in_training"]
    assert seen == [*names[:3], names[4]]
    assert f"4 of the {len(names)} tested" in caplog.text
    assert f"{names[0]!r}, {names[1]!r}, {names[2]!r} and 1 more" in caplog.text
    caplog.clear()
    rest = corpus.select_classes([name for name in names if name not in seen])
    with caplog.at_level("WARNING"):
        assert evaluate(init, rest, split="all", **settings)["protocol"]["classes_seen_in_training"] == []
    assert not caplog.text


def test_class_names_are_compared_without_case_and_punctuation(tiny):
    corpus = Corpus((), np.array([]), ("World-News", "play_music", "c++", "taste"))
    seen = {"train": ["world news", "c"], "validation": ["Play  music"]}
    init = replace(untrained(tiny), training={"class_names": seen})
    assert classes_seen_in_training(init, corpus) == ["World-News", "play_music"]


def test_numbers_in_class_names_change_nothing(tiny, corpus):
    """Neither for the init nor for baselines that use names."""
    baselines = ["prototypes", "prototypes+names", "warp-mask"]
    settings = SMALL | {"backbone": tiny, "split": "all", "baselines": baselines, "k_shot": 2}
    spellings = [f"LABEL_{c}" for c in range(6)], [str(90 - c) for c in range(6)]
    one, two = (
        evaluate(untrained(tiny), replace(corpus, class_names=tuple(names)), **settings)["methods"]
        for names in spellings
    )
    assert one == two
    assert one != evaluate(untrained(tiny), corpus, **settings)["methods"]
    assert one == evaluate(untrained(tiny), replace(corpus, named=False), **settings)["methods"]
    with refused("k_shot=0", "names that carry meaning", "raise k_shot"):
        settings["k_shot"] = 0
        evaluate(untrained(tiny), replace(corpus, named=False), **settings)


def test_a_split_that_is_not_known_is_refused(tiny, file):
    with refused("split='test'", file, "splits=FILE", "split='all'"):
        evaluate(untrained(tiny), str(file), backbone=tiny)
    with refused("split='dev'", "train, validation, test, all"):
        evaluate(untrained(tiny), str(file), backbone=tiny, split="dev")  # pyright: ignore[reportArgumentType]


def test_the_correction_by_holm_keeps_the_order_of_p_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_p_values_are_those_of_the_normal_distribution():
    differences = np.array([0.0, 0.2, 0.1, 0.3, -0.1, 0.1])
    z = differences.mean() / (differences.std(ddof=1) / np.sqrt(6))
    assert p_value(differences) == pytest.approx(2 * norm.sf(z))
    assert p_value(-differences) == p_value(differences)
    assert p_value(np.zeros(4)) == 1
    assert p_value(np.full(4, 0.25)) == 0
