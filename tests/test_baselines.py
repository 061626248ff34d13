"""Baselines: each against its definition, computed by hand."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch
from running import refused
from sklearn.linear_model import LogisticRegression
from tiny import NO_STEPS, assert_queries_are_independent, features, tiny_corpus

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.config import GROUPS, InnerLoop
from metawarp.evaluation.baselines import BASELINES, BaselineContext, baseline_names, create_baselines
from metawarp.evaluation.predictors import Predictor, metawarp_predictor
from metawarp.evaluation.scores import score
from metawarp.evaluation.sentence_baselines import (
    SentenceEncoder,
    logistic_regression,
    prototypes,
    prototypes_and_names,
    untuned_weight,
)
from metawarp.evaluation.untrained_baselines import tuned_class_embeddings
from metawarp.inits.defaults import untrained
from metawarp.parameters import mapped
from metawarp.texts.feature_cache import FeatureCache

ONE_STEP, BOTH = InnerLoop(1, ("class_embeddings",)), InnerLoop(2, GROUPS)


@pytest.fixture
def encode(tiny):
    return SentenceEncoder(tiny, 64, 0, FeatureCache())


@pytest.fixture
def sampler():
    return EpisodeSampler(tiny_corpus(), n_way=4, k_shot=(1, 4), n_query=5, balanced=False)


@pytest.fixture
def validation():
    """A function that returns a sampler of validation episodes for a number of shots, and records the calls."""
    return Mock(side_effect=lambda shots: EpisodeSampler(tiny_corpus(seed=1), 3, shots, 4, seed=1))


def context_of(backbone, inner=ONE_STEP, *, shots=(1,), template="{prompt:2} {text} {mask}", **settings: Any):
    warp = Warp(backbone, WarpConfig(template=template))
    shots = range(min(shots), max(shots) + 1)
    settings = {"encode": SentenceEncoder(backbone, 128, 0, FeatureCache()), "validation": None, **settings}
    return BaselineContext(warp, Init.start(warp, inner), shots=shots, **settings)


def baseline(name: str, context: BaselineContext) -> Predictor:
    return create_baselines([name], context)[0][name]


def hyperparameter(name: str, context: BaselineContext) -> Any:
    """The only value that a baseline chooses."""
    (value,) = create_baselines([name], context)[1][name].values()
    return value


def predictions(predict: Predictor, episodes: Sequence[Episode]) -> np.ndarray:
    return np.concatenate(list(predict(episodes)))


def accuracies(create, candidates, sampler, number=4) -> dict[float, float]:
    """Mean accuracy on the first episodes by hyperparameter."""
    return {value: score(create(value), sampler, number).accuracy.mean() for value in candidates}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# The sentence encoder -------------------------------------------------------------------------------------


def test_an_embedding_is_the_mean_over_all_tokens_scaled_to_unit_length(tiny, encode):
    texts = ["play the music", "what is the weather today"]
    for text, found in zip(texts, encode(texts), strict=True):
        ids = torch.tensor([tiny.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            hidden = tiny.model(input_ids=ids).last_hidden_state[0]
        assert found == pytest.approx(unit(hidden.mean(0).numpy()), abs=1e-6)


def test_minilm_embeds_as_sentence_transformers_does(minilm):
    library = pytest.importorskip("sentence_transformers")
    texts = ["Where is my parcel?", "turn the lights off in the kitchen, please", "naïve café — 100 %"]
    expected = library.SentenceTransformer(minilm.source, device="cpu").encode(texts)
    assert SentenceEncoder(minilm, 128, 0, FeatureCache())(texts) == pytest.approx(expected, abs=2e-6)


def test_an_embedding_does_not_depend_on_the_other_texts(encode, tiny):
    texts = tiny_corpus().texts[:70]  # more than one batch
    together = encode(texts)
    assert together.shape == (70, 32)
    assert SentenceEncoder(tiny, 64, 0, FeatureCache())([texts[66]])[0] == pytest.approx(together[66], abs=1e-7)
    assert encode([texts[3], texts[3]]) == pytest.approx(together[[3, 3]], abs=0)


# Prototypes, with and without names -----------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "default"), [({}, 0.0), ({}, 0.3), ({}, 1.0), ({1: 0.9, 2: 0.2}, None)], ids=str)
def test_a_class_embedding_is_the_weighted_sum_of_name_and_prototype(encode, weights, default):
    sampler = EpisodeSampler(tiny_corpus(), n_way=4, k_shot=(0, 3), n_query=5, balanced=False)
    for episode in (sampler[i] for i in range(5)):
        names, support = encode(episode.class_names), encode(episode.support_texts)
        rows = []
        for label, name in enumerate(names):
            own = support[episode.support_labels == label]
            weight = weights.get(len(own), untuned_weight(len(own)) if default is None else default)
            rows.append(weight * name + (1 - weight) * unit(own.mean(0)) if len(own) else name)
        expected = np.argmax(encode(episode.query_texts) @ unit(np.stack(rows)).T, axis=1).tolist()
        assert next(prototypes_and_names(encode, weights, [episode], default=default)).argmax(1).tolist() == expected
        if default == 0:
            assert next(prototypes(encode, [episode])).argmax(1).tolist() == expected


def test_the_weight_of_names_is_chosen_on_validation_episodes_for_each_number_of_shots(tiny, sampler, validation):
    context = context_of(tiny, shots=(0, 2), validation=validation, validation_episodes=2)
    predictors, chosen = create_baselines(["prototypes+names"], context)
    assert validation.call_args_list == [call(1), call(2)]  # at zero shots there is nothing to choose
    weights: Any = chosen["prototypes+names"]["name_weight"]
    for shots in (1, 2):
        by_weight = accuracies(
            lambda w: partial(prototypes_and_names, context.encode, {}, default=w),
            np.arange(21) / 20,
            validation(shots),
            number=2,
        )
        assert by_weight[weights[str(shots)]] == max(by_weight.values()) > min(by_weight.values())
    expected = partial(prototypes_and_names, context.encode, {int(k): w for k, w in weights.items()})
    episodes = [sampler[i] for i in range(5)]
    assert np.array_equal(predictions(predictors["prototypes+names"], episodes), predictions(expected, episodes))


def test_without_validation_classes_nothing_is_chosen(tiny):
    _, chosen = create_baselines(["prototypes", "prototypes+names", "logistic-regression"], context_of(tiny))
    assert chosen == {
        "prototypes+names": {"name_weight": "1 / (1 + K·e^m), not tuned"},
        "logistic-regression": {"C": 10.0},
    }
    assert [untuned_weight(shots) for shots in (1, 5)] == pytest.approx([0.77, 0.40], abs=0.005)


# Logistic regression --------------------------------------------------------------------------------------


def test_logistic_regression_is_that_of_sklearn_on_the_embeddings(encode, sampler):
    episode = sampler[1]
    model = LogisticRegression(C=3.0, max_iter=1000).fit(encode(episode.support_texts), episode.support_labels)
    found = next(logistic_regression(encode, 3.0, [episode]))
    assert np.array_equal(found, model.predict_proba(encode(episode.query_texts)))
    assert len(set(found.argmax(1).tolist())) > 1


def test_the_regularization_is_chosen_on_validation_episodes_with_the_most_shots(tiny, validation):
    context = context_of(tiny, shots=(1, 3), validation=validation, validation_episodes=4)
    chosen = hyperparameter("logistic-regression", context)
    assert validation.call_args_list == [call(3)]
    by_c = accuracies(lambda c: partial(logistic_regression, context.encode, c), (0.1, 1, 10, 100), validation(3))
    assert by_c[chosen] == max(by_c.values())


# Untrained versions of the init ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "setfit"])
def test_queries_are_predicted_independently(tiny, sampler, name):
    assert_queries_are_independent(baseline(name, context_of(tiny, BOTH, shots=(1, 4))), sampler[0], atol=1e-6)


def test_the_soft_tokens_of_untrained_versions_start_from_mask_and_from_noise(tiny, sampler):
    context, episodes = context_of(tiny, BOTH, seed=3), [sampler[i] for i in range(4)]
    mask, noise, same, other = (
        predictions(baseline(name, context_of(tiny, BOTH, seed=seed)), episodes)
        for name, seed in (("warp-mask", 3), ("warp-random", 3), ("warp-random", 3), ("warp-random", 4))
    )
    fresh = metawarp_predictor(context.warp, context.init.on(tiny), BOTH)  # starts from [MASK] too
    assert np.array_equal(mask, predictions(fresh, episodes))
    assert np.array_equal(noise, same)
    assert not np.array_equal(noise, mask) and not np.array_equal(noise, other)


@pytest.mark.parametrize("name", ["warp-mask", "warp-random"])
def test_untrained_versions_use_neither_the_words_nor_the_values_of_the_init(tiny, sampler, name):
    fresh, episodes = context_of(tiny, BOTH), [sampler[i] for i in range(3)]
    learned = mapped(fresh.init.parameters, lambda tensor: tensor + 1)
    trained = replace(fresh, init=replace(fresh.init, parameters=learned, method="maml"))
    with_words = context_of(tiny, BOTH, template="{prompt:'sun sun'} {text} {mask}")
    expected = predictions(baseline(name, fresh), episodes)
    for context in (trained, with_words):
        assert np.array_equal(predictions(baseline(name, context), episodes), expected)


def test_class_embeddings_are_tuned_with_a_learning_rate_chosen_on_validation_episodes(tiny, encode, validation):
    context = context_of(tiny, shots=(3,), validation=validation, validation_episodes=4)
    by_rate = accuracies(lambda rate: tuned_class_embeddings(encode, rate), (0.1, 0.3, 1.0, 3.0), validation(3))
    assert by_rate[hyperparameter("tuned-class-embeddings", context)] == max(by_rate.values())
    episodes = [validation(3)[i] for i in range(5)]
    untuned = metawarp_predictor(untrained(tiny).bind(tiny), untrained(tiny).on(tiny), NO_STEPS)
    plain, tuned, without_steps = (
        predictions(predict, episodes)
        for predict in (
            untuned, tuned_class_embeddings(encode, 30.0), tuned_class_embeddings(encode, 30.0, inner_steps=0)
        )
    )  # fmt: skip
    assert not np.array_equal(tuned.argmax(1), plain.argmax(1))
    assert np.allclose(without_steps, plain, rtol=0, atol=1e-9)


def test_repverb_class_embeddings_are_the_means_of_support_features(tiny, sampler):
    context, episode = context_of(tiny), sampler[3]
    predicted = predictions(baseline("repverb", context), [episode]).argmax(1)
    warp = Warp(tiny, replace(context.warp.config, read_out="mask", verbalizer="names", prompt_start="mask"))
    init = Init.start(warp, NO_STEPS).on(tiny)
    support, query = features(warp, init, episode.support_texts), features(warp, init, episode.query_texts)
    means = torch.stack([support[episode.support_labels == label].mean(0) for label in range(episode.n_way)])
    assert predicted.tolist() == (query @ torch.nn.functional.normalize(means, dim=-1).T).argmax(1).tolist()


# Names of baselines ---------------------------------------------------------------------------------------


def test_all_leaves_out_what_cannot_be_used_and_setfit():
    everything = [name for name in BASELINES if name != "setfit"]  # which takes longer than all others together
    assert baseline_names(["all"], 1) == everything
    assert baseline_names(["all"], 0) == ["prototypes+names", "tuned-class-embeddings", "warp-random", "warp-mask"]
    assert baseline_names(["none"], 1) == []
    assert baseline_names(["warp-mask", "prototypes"], 1) == ["warp-mask", "prototypes"]


@pytest.mark.parametrize(
    ("names", "shots", "facts"),
    [
        (["prototypes", "protonets", "knn"], 1, ["all, none", "prototypes+names", "setfit", "protonets, knn"]),
        (["all", "setfit"], 1, ["all, setfit"]),
        (["none", "setfit"], 1, ["none, setfit"]),
        (
            ["prototypes", "prototypes+names", "logistic-regression"],
            0,
            ["prototypes, logistic-regression", "support texts", "k_shot=0"],
        ),
    ],
)
def test_unusable_baselines_are_refused(names, shots, facts):
    with refused(*facts):
        baseline_names(names, shots)


@pytest.mark.skipif(find_spec("setfit") is not None, reason="setfit is installed here")
def test_setfit_without_its_extra_says_how_to_get_it(tiny):
    with refused("setfit", 'pip install "metawarp[setfit]"', error=ImportError):
        create_baselines(["setfit"], context_of(tiny))


def test_a_setfit_that_does_not_import_says_why(tiny, tmp_path, monkeypatch):
    (tmp_path / "setfit.py").write_text("from transformers import no_such_name")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "setfit", raising=False)
    with refused("setfit", "cannot import name 'no_such_name'", "pip", error=ImportError):
        create_baselines(["setfit"], context_of(tiny))


@pytest.mark.slow
def test_the_strongest_baseline_uses_names_and_texts(minilm, everyday):
    encode = SentenceEncoder(minilm, 64, 0, FeatureCache())
    sampler = EpisodeSampler(everyday.test, n_way=5, k_shot=1, n_query=5)
    plain = score(partial(prototypes, encode), sampler, 15).accuracy.mean()
    both = score(partial(prototypes_and_names, encode, {}), sampler, 15).accuracy.mean()
    assert 0.5 < plain < both


@pytest.mark.slow
def test_the_untrained_init_is_the_baseline(minilm, everyday):
    sampler = EpisodeSampler(everyday.test, n_way=5, k_shot=(0, 3), n_query=4, balanced=False)
    init, encode = untrained(minilm), SentenceEncoder(minilm, untrained(minilm).config.max_length, 0, FeatureCache())
    model = metawarp_predictor(init.bind(minilm), init.on(minilm), init.inner)
    episodes = [sampler[i] for i in range(4)]
    expected = prototypes_and_names(encode, {}, episodes)
    assert [p.argmax(1).tolist() for p in model(episodes)] == [p.argmax(1).tolist() for p in expected]
