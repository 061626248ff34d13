"""How a method is measured: the same episodes for all, intervals, and no peeking from query to query."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused, write_rows
from scipy.stats import norm
from sklearn.metrics import f1_score
from tiny import tiny_corpus

from episodes import Corpus, EpisodeSampler
from metawarp import Init, Warp, WarpConfig, evaluate
from metawarp.config import InnerLoop
from metawarp.evaluation.evaluate import classes_seen_in_training
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import compare, holm, interval, p_value, score
from metawarp.inits.init import untrained
from metawarp.parameters import mapped, tensors_of

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}")
INNERS = {
    "no steps": InnerLoop(),
    "class embeddings": InnerLoop(2, ("class_embeddings",)),
    "both": InnerLoop(2, ("adapter", "class_embeddings")),
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


# Inductive ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", INNERS)
def test_shuffled_queries_get_the_same_predictions(tiny, sampler, inner):
    predict, rng = predictor_of(tiny, INNERS[inner]), np.random.default_rng(0)
    for i in range(3):
        episode = sampler[i]
        order = rng.permutation(len(episode.query))
        shuffled = replace(episode, query=episode.query[order], query_labels=episode.query_labels[order])
        assert len(set(next(predict([episode])).argmax(1).tolist())) > 1
        assert np.allclose(next(predict([shuffled])), next(predict([episode]))[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("inner", INNERS)
def test_queries_in_parts_get_the_same_predictions(tiny, sampler, inner):
    predict, episode = predictor_of(tiny, INNERS[inner]), sampler[0]
    parts = [
        replace(episode, query=episode.query[at], query_labels=episode.query_labels[at]) for at in ([0], [1, 5, 2])
    ]
    whole = next(predict([episode]))
    assert np.allclose(next(predict([parts[0]])), whole[[0]], rtol=0, atol=1e-9)
    assert np.allclose(next(predict([parts[1]])), whole[[1, 5, 2]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("inner", INNERS)
def test_labels_of_the_queries_are_not_used(tiny, sampler, inner):
    predict, episode = predictor_of(tiny, INNERS[inner]), sampler[0]
    blind = replace(episode, query_labels=np.zeros_like(episode.query_labels))
    assert next(predict([blind])).tolist() == next(predict([episode])).tolist()


@pytest.mark.parametrize("inner", INNERS)
def test_episodes_side_by_side_are_predicted_as_one_by_one(tiny, corpus, inner):
    predict = predictor_of(tiny, INNERS[inner])
    samplers = [EpisodeSampler(corpus, n_way, k_shot, 3) for n_way, k_shot in ((2, 1), (5, 3), (4, 0))]
    episodes = [some[i] for i in range(4) for some in samplers]
    together, alone = list(predict(episodes)), [next(predict([episode])) for episode in episodes]
    assert len(together) == len(episodes)
    assert all(np.allclose(one, other, rtol=0, atol=1e-8) for one, other in zip(together, alone, strict=True))
    assert all(np.allclose(chances.sum(1), 1) for chances in together)


# Numbers --------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).random(50)
    assert interval(values) == pytest.approx(1.959964 * np.sqrt(values.var(ddof=1) / 50), rel=1e-12)
    assert interval(np.full(10, 0.25)) == 0


def test_the_interval_holds_the_mean_of_many_in_95_of_100_draws():
    draws = np.random.default_rng(0).normal(0.7, 0.1, size=(2000, 100))
    held = [abs(draw.mean() - 0.7) < interval(draw) for draw in draws]
    assert 0.93 < np.mean(held) < 0.97


def test_scores_are_those_of_sklearn_and_of_counting(sampler):
    predict, n = cheating(1, 0.6), 25
    scores = score(predict, sampler, n)
    for i in range(n):
        episode = sampler[i]
        predicted = next(predict([episode])).argmax(1)
        assert scores.accuracy[i] == np.mean(predicted == episode.query_labels)
        expected = f1_score(episode.query_labels, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
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

    def noting(name):
        def predict(episodes):
            seen[name] += [(e.class_names, e.support_texts, e.query_texts, e.query_labels.tolist()) for e in episodes]
            return cheating(0, 0.0)(episodes)

        return predict

    found = compare({name: noting(name) for name in seen}, sampler, 26)
    assert len(seen["a"]) == 26
    assert seen["a"] == seen["b"]
    assert found["methods"]["a"]["accuracy"] == 1.0
    assert found["methods"]["a"]["macro_f1"] == 1.0


# Results of `metawarp evaluate` ---------------------------------------------------------------------------


def test_results_are_protocol_methods_and_paired_and_the_file_holds_them(tiny, file, tmp_path):
    init = Init.start(Warp(tiny, CONFIG), InnerLoop(1, ("class_embeddings",)), method="anil")
    output = tmp_path / "new" / "results.json"
    found = evaluate(
        init, str(file), backbone=tiny, split="all", n_way=3, k_shot=2, n_query=4, episodes=4, output=str(output)
    )
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert list(found) == ["protocol", "methods", "paired"]
    names = ["prototypes", "prototypes+names", "logistic-regression", "tuned-class-embeddings", "repverb"]
    names += ["warp-random", "warp-mask"]
    assert list(found["methods"]) == ["metawarp", *names]
    assert list(found["paired"]) == [f"metawarp - {name}" for name in names]
    for method in found["methods"].values():
        assert list(method) == ["accuracy", "ci95", "macro_f1", "calibration_error", "per_episode"]
        assert len(method["per_episode"]) == 4
        assert method["accuracy"] == pytest.approx(np.mean(method["per_episode"]))
    for pair in found["paired"].values():
        assert list(pair) == ["difference", "ci95", "p_holm"]
    protocol = found["protocol"]
    expected = {"corpus": str(file), "split": "all", "n_way": 3, "k_shot": 2, "n_query": 4, "episodes": 4, "seed": 0}
    assert expected.items() <= protocol.items()
    assert protocol["classes"] == sorted(tiny_corpus().class_names)
    assert protocol["backbone"]["fingerprint"] == tiny.fingerprint
    assert {"metawarp", "torch", "transformers", "numpy"} <= protocol["versions"].keys()


def test_the_same_evaluation_twice_gives_the_same_file(tiny, file, tmp_path):
    init = Init.start(Warp(tiny, CONFIG), InnerLoop(2, ("adapter", "class_embeddings")), method="maml")
    settings = {"backbone": tiny, "split": "all", "n_way": 2, "n_query": 3, "episodes": 4}
    settings["baselines"] = ["prototypes", "warp-random"]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    before = evaluate(init, str(file), output=str(one), **settings)
    evaluate(init, str(file), output=str(two), **settings)
    assert one.read_bytes() == two.read_bytes()
    found = evaluate(init, str(file), seed=1, **settings)
    assert found["methods"]["prototypes"]["per_episode"] != before["methods"]["prototypes"]["per_episode"]


def test_the_hash_in_the_protocol_is_that_of_the_saved_init(tiny, file, tmp_path):
    init = untrained(tiny)
    digest = init.save(tmp_path)
    found = evaluate(
        str(tmp_path), str(file), backbone=tiny, split="all", n_way=2, episodes=2, n_query=2, baselines=["none"]
    )
    assert found["protocol"]["init_sha256"] == digest
    assert list(found["methods"]) == ["metawarp"]
    assert found["paired"] == {}


def test_classes_that_the_init_has_seen_are_named(tiny, corpus, caplog):
    names = list(corpus.class_names)
    init = replace(
        untrained(tiny), training={"class_names": {"train": names[:3], "validation": ["elsewhere", names[4]]}}
    )
    settings = {"backbone": tiny, "n_way": 2, "k_shot": 1, "n_query": 2, "episodes": 2, "baselines": "none"}
    with caplog.at_level("WARNING"):
        seen = evaluate(init, corpus, split="all", **settings)["protocol"]["classes_seen_in_training"]
    assert seen == [*names[:3], names[4]]
    assert f"4 of the {len(names)} tested" in caplog.text
    assert f"{names[0]!r}, {names[1]!r}, {names[2]!r} and 1 more" in caplog.text
    caplog.clear()
    rest = corpus.select_classes([name for name in names if name not in seen])
    with caplog.at_level("WARNING"):
        assert evaluate(init, rest, split="all", **settings)["protocol"]["classes_seen_in_training"] == []
    assert caplog.text == ""


def test_a_class_is_the_same_in_capitals_and_with_hyphens(tiny):
    corpus = Corpus((), (), ("World-News", "play_music", "c++", "taste"))
    init = replace(
        untrained(tiny), training={"class_names": {"train": ["world news", "c"], "validation": ["Play  music"]}}
    )
    assert classes_seen_in_training(init, corpus) == ["World-News", "play_music"]


@pytest.mark.slow
def test_on_real_text_the_untrained_start_is_far_above_chance(minilm, everyday):
    sampler = EpisodeSampler(everyday.test, n_way=5, k_shot=1, n_query=5)
    init = untrained(minilm)
    predict = metawarp_predictor(init.bind(minilm), init.on(minilm), init.inner)
    assert score(predict, sampler, 8).accuracy.mean() > 0.6  # chance is 0.2


def test_a_split_that_is_not_known_is_refused(tiny, file):
    with refused("split='test'", file, "splits=FILE", "split='all'"):
        evaluate(untrained(tiny), str(file), backbone=tiny)
    with refused("split='dev'", "train, validation, test, all"):
        evaluate(untrained(tiny), str(file), backbone=tiny, split="dev")  # pyright: ignore[reportArgumentType]


def test_evaluation_leaves_the_init_as_it_was(tiny, sampler):
    warp, inner = Warp(tiny, CONFIG), INNERS["both"]
    state = Init.start(warp, inner).on(tiny)
    before = mapped(state, torch.clone)
    next(metawarp_predictor(warp, state, inner)([sampler[0]]))
    assert all(torch.equal(tensors_of(before)[name], tensor) for name, tensor in tensors_of(state).items())


def test_holm_corrects_by_what_is_left_and_keeps_the_order():
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
