"""Baselines: each against its definition, computed by hand."""

import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from running import refused
from sklearn.linear_model import LogisticRegression
from tiny import NO_STEPS, tiny_corpus

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.start import shared_parameters
from metawarp.config import InnerLoop
from metawarp.evaluation.baselines import BASELINES, BaselineContext, baseline_names, create_baselines
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import score
from metawarp.evaluation.sentence_baselines import (
    SentenceEncoder,
    logistic_regression,
    prototypes,
    prototypes_and_names,
    untuned_weight,
)
from metawarp.evaluation.setfit import setfit
from metawarp.evaluation.untrained_baselines import tuned_class_embeddings
from metawarp.inits.init import untrained
from metawarp.parameters import mapped
from metawarp.texts.feature_cache import FeatureCache

ONE_STEP = InnerLoop(1, ("class_embeddings",))


@pytest.fixture
def encode(tiny):
    return SentenceEncoder(tiny, 64, 0, FeatureCache())


@pytest.fixture
def sampler():
    return EpisodeSampler(tiny_corpus(), n_way=4, k_shot=(1, 4), n_query=5, balanced=False)


def context_of(
    backbone, *, inner=ONE_STEP, shots=range(1, 2), validation=None, template="{prompt:2} {text} {mask}", **settings
):
    warp = Warp(backbone, WarpConfig(template=template))
    encode = SentenceEncoder(backbone, 128, 0, FeatureCache())
    return BaselineContext(warp, Init.start(warp, inner), encode, shots, validation, **settings)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# The encoder ----------------------------------------------------------------------------------------------


def test_an_embedding_is_the_mean_over_all_tokens_of_unit_length(tiny, encode):
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


def test_an_embedding_does_not_depend_on_the_texts_beside_it(encode, tiny):
    texts = tiny_corpus().texts[:70]  # more than one batch
    together = encode(texts)
    assert together.shape == (70, 32)
    assert SentenceEncoder(tiny, 64, 0, FeatureCache())([texts[66]])[0] == pytest.approx(together[66], abs=1e-7)
    assert encode([texts[3], texts[3]]) == pytest.approx(together[[3, 3]], abs=0)


# Prototypes, with and without names -----------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_a_class_embedding_is_w_of_the_name_and_the_rest_of_the_prototype(encode, sampler, w):
    for i in range(5):
        episode = sampler[i]
        names, support, query = (encode(t) for t in (episode.class_names, episode.support_texts, episode.query_texts))
        means = np.stack([support[episode.support_labels == c].mean(0) for c in range(4)])
        expected = np.argmax(query @ unit(w * names + (1 - w) * unit(means)).T, axis=1)
        assert next(prototypes_and_names(encode, {}, [episode], default=w)).argmax(1).tolist() == expected.tolist()
        if w == 0:
            assert expected.tolist() == next(prototypes(encode, [episode])).argmax(1).tolist()


def test_each_class_takes_the_weight_of_its_own_number_of_shots(encode):
    texts = tiny_corpus().texts
    episode = Episode.from_texts(
        ["alarm", "rain", "flight"], (texts[0], texts[13], texts[14]), [0, 1, 1], texts[20:40], [0] * 20
    )
    names, support, query = encode(episode.class_names), encode(episode.support_texts), encode(episode.query_texts)
    rows = [
        0.9 * names[0] + 0.1 * support[0],
        0.2 * names[1] + 0.8 * unit((support[1] + support[2]) / 2),
        names[2],  # no text: its name alone
    ]
    expected = np.argmax(query @ unit(np.stack(rows)).T, axis=1)
    assert next(prototypes_and_names(encode, {1: 0.9, 2: 0.2}, [episode])).argmax(1).tolist() == expected.tolist()


def test_without_support_texts_names_are_left(encode):
    sampler = EpisodeSampler(tiny_corpus(), n_way=4, k_shot=0, n_query=5)
    episode = sampler[0]
    expected = np.argmax(encode(episode.query_texts) @ encode(episode.class_names).T, axis=1)
    assert next(prototypes_and_names(encode, {}, [episode])).argmax(1).tolist() == expected.tolist()


def test_the_weight_without_validation_classes_falls_with_the_shots():
    assert [untuned_weight(shots) for shots in (1, 5)] == pytest.approx([0.77, 0.40], abs=0.005)


def test_the_weight_is_chosen_on_validation_episodes_for_each_number_of_shots(tiny):
    corpus = tiny_corpus()
    validation = corpus.select_classes(corpus.class_names[:3], name="validation")
    asked = []

    def sampler_at(shots):
        asked.append(shots)
        return EpisodeSampler(validation, 3, shots, 4, seed=1)

    context = context_of(tiny, shots=range(0, 3), validation=sampler_at, validation_episodes=6)
    predictors, chosen = create_baselines(["prototypes+names"], context)
    assert asked == [1, 2]  # none at zero shots: nothing to choose there
    weights = chosen["prototypes+names"]["name_weight"]
    encode = SentenceEncoder(tiny, 128, 0, FeatureCache())
    for shots in (1, 2):
        by_weight = {
            w: score(partial(prototypes_and_names, encode, {}, default=w), sampler_at(shots), 6).accuracy.mean()
            for w in np.arange(21) / 20
        }
        assert by_weight[weights[str(shots)]] == max(by_weight.values())
        assert min(by_weight.values()) < max(by_weight.values())
    test = EpisodeSampler(corpus, 4, (0, 2), 5, balanced=False)
    expected = partial(prototypes_and_names, encode, {int(k): w for k, w in weights.items()})
    for i in range(5):
        found = next(predictors["prototypes+names"]([test[i]]))
        assert found.tolist() == next(expected([test[i]])).tolist()


def test_without_validation_classes_nothing_is_chosen(tiny):
    _, chosen = create_baselines(["prototypes", "prototypes+names", "logistic-regression"], context_of(tiny))
    assert chosen == {
        "prototypes+names": {"name_weight": "1 / (1 + K·e^m), not tuned"},
        "logistic-regression": {"C": 10.0},
    }


# Logistic regression --------------------------------------------------------------------------------------


def test_logistic_regression_is_that_of_sklearn_on_the_embeddings(encode, sampler):
    episode = sampler[1]
    model = LogisticRegression(C=3.0, max_iter=1000).fit(encode(episode.support_texts), episode.support_labels)
    found = next(logistic_regression(encode, 3.0, [episode]))
    assert np.array_equal(found, model.predict_proba(encode(episode.query_texts)))
    assert len(set(found.argmax(1).tolist())) > 1


def test_its_strength_is_chosen_on_validation_episodes_at_the_most_shots(tiny):
    asked = []

    def sampler_at(shots):
        asked.append(shots)
        return EpisodeSampler(tiny_corpus(seed=1), 3, shots, 4, seed=1)

    _, chosen = create_baselines(
        ["logistic-regression"], context_of(tiny, shots=range(1, 4), validation=sampler_at, validation_episodes=4)
    )
    assert asked == [3]
    encode = SentenceEncoder(tiny, 128, 0, FeatureCache())
    accuracy = {
        c: score(partial(logistic_regression, encode, c), sampler_at(3), 4).accuracy.mean()
        for c in (0.1, 1.0, 10.0, 100.0)
    }
    assert accuracy[chosen["logistic-regression"]["C"]] == max(accuracy.values())


# Untrained versions of the init ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "setfit"])
def test_each_predicts_a_query_without_looking_at_the_others_or_at_labels(tiny, sampler, name):
    context = context_of(tiny, inner=InnerLoop(2, ("adapter", "class_embeddings")), shots=range(1, 5))
    predict = create_baselines([name], context)[0][name]
    episode = sampler[0]
    (whole,) = predict([episode])
    assert np.ptp(whole, axis=0).max() > 1e-4
    order = np.random.default_rng(0).permutation(len(episode.query))
    for at in (order, [0], [1, 5, 2]):
        (part,) = predict([replace(episode, query=episode.query[at], query_labels=episode.query_labels[at])])
        assert np.allclose(part, whole[at], rtol=0, atol=1e-6)
    (blind,) = predict([replace(episode, query_labels=np.zeros_like(episode.query_labels))])
    assert blind.tolist() == whole.tolist()


def test_untrained_versions_start_from_mask_and_from_noise(tiny, sampler):
    context = context_of(tiny, inner=InnerLoop(2, ("adapter", "class_embeddings")), seed=3)
    predictors, _ = create_baselines(["warp-mask", "warp-random"], context)
    episodes = [sampler[i] for i in range(20)]
    found = {name: np.concatenate(list(predict(episodes))) for name, predict in predictors.items()}
    assert not np.array_equal(found["warp-mask"], found["warp-random"])
    fresh = metawarp_predictor(context.warp, context.init.on(tiny), context.init.inner)  # starts from [MASK] too
    assert np.array_equal(found["warp-mask"], np.concatenate(list(fresh(episodes))))
    again, _ = create_baselines(["warp-random"], context)
    assert np.array_equal(found["warp-random"], np.concatenate(list(again["warp-random"](episodes))))
    other, _ = create_baselines(["warp-random"], context_of(tiny, inner=context.init.inner, seed=4))
    assert not np.array_equal(found["warp-random"], np.concatenate(list(other["warp-random"](episodes))))


def test_the_versions_start_from_no_words_either(tiny, sampler):
    inner = InnerLoop()
    with_words, plain = (
        context_of(tiny, inner=inner, template=t)
        for t in ("{prompt:'sun sun'} {text} {mask}", "{prompt:2} {text} {mask}")
    )
    episodes = [sampler[i] for i in range(10)]
    for name in ("warp-mask", "warp-random"):
        one, other = (list(create_baselines([name], context)[0][name](episodes)) for context in (with_words, plain))
        assert np.array_equal(np.concatenate(one), np.concatenate(other))


def test_the_versions_know_nothing_of_what_the_init_has_learned(tiny, sampler):
    inner = InnerLoop(1, ("adapter", "class_embeddings"))
    fresh = context_of(tiny, inner=inner)
    learned = mapped(fresh.init.parameters, lambda tensor: tensor + 1)
    trained = replace(fresh, init=replace(fresh.init, parameters=learned, method="maml"))
    episodes = [sampler[i] for i in range(10)]
    for name in ("warp-mask", "warp-random"):
        one, other = (list(create_baselines([name], context)[0][name](episodes)) for context in (fresh, trained))
        assert np.array_equal(np.concatenate(one), np.concatenate(other))


def test_class_embeddings_are_tuned_and_the_rate_is_chosen_on_validation(tiny, encode):
    corpus = tiny_corpus()
    sampler_at = {shots: EpisodeSampler(corpus, 4, shots, 4, seed=5) for shots in range(4)}.__getitem__
    context = context_of(tiny, shots=range(3, 4), validation=sampler_at, validation_episodes=4)
    _, chosen = create_baselines(["tuned-class-embeddings"], context)
    accuracy = {
        rate: score(tuned_class_embeddings(encode, rate), sampler_at(3), 4).accuracy.mean()
        for rate in (0.1, 0.3, 1.0, 3.0)
    }
    assert accuracy[chosen["tuned-class-embeddings"]["rate"]] == max(accuracy.values())
    episodes = [sampler_at(3)[i] for i in range(10)]
    untuned = metawarp_predictor(untrained(tiny).bind(tiny), untrained(tiny).on(tiny), NO_STEPS)
    tuned, plain = (list(predict(episodes)) for predict in (tuned_class_embeddings(encode, 30.0), untuned))
    assert not np.array_equal(np.concatenate(tuned).argmax(1), np.concatenate(plain).argmax(1))
    still = list(tuned_class_embeddings(encode, 30.0, inner_steps=0)(episodes))
    assert np.allclose(np.concatenate(still), np.concatenate(plain), rtol=0, atol=1e-9)


def test_repverb_class_embeddings_are_the_means_of_support_features(tiny, sampler):
    context, episode = context_of(tiny), sampler[3]
    (predicted,) = create_baselines(["repverb"], context)[0]["repverb"]([episode])
    warp = Warp(tiny, replace(context.warp.config, read_out="mask", verbalizer="names", prompt_start="mask"))
    parameters = shared_parameters(Init.start(warp, NO_STEPS).on(tiny))

    def features(texts):
        return warp.read(parameters, warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))

    support, query = features(episode.support_texts), features(episode.query_texts)
    means = torch.stack([support[episode.support_labels == label].mean(0) for label in range(episode.n_way)])
    means = torch.nn.functional.normalize(means, dim=-1)
    assert predicted.argmax(1).tolist() == (query @ means.T).argmax(1).tolist()


# Which of them --------------------------------------------------------------------------------------------


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
def test_setfit_without_its_extra_says_how_to_get_it(tiny, sampler):
    facts = ["setfit", 'pip install "metawarp[setfit]"']
    with refused(*facts, error=ImportError):
        next(setfit(tiny, 0, [sampler[0]]))
    with refused(*facts, error=ImportError):  # before the other methods have run for an hour
        create_baselines(["setfit"], context_of(tiny))


def test_a_setfit_that_does_not_import_says_why(tiny, tmp_path, monkeypatch):
    (tmp_path / "setfit.py").write_text("from transformers import no_such_name")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "setfit", raising=False)
    with pytest.raises(ImportError, match=r"setfit. could not be imported \(cannot import name 'no_such_name'.*pip"):
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
