"""Embeddings of classes never seen: each recipe by hand, and the untrained baseline as a special case of the model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_episodes, tiny_model
from torch.nn.functional import normalize

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.start import shared_parameters, start
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.sentence_baselines import SentenceEncoder, prototypes, prototypes_and_names
from metawarp.inits.init import untrained
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.mix import NAME_WEIGHT


def embeddings_of(warp, init, episodes, named=True):
    """Class embeddings (T, C, d) before any inner step."""
    return start(warp, init, TaskBatch.encode(episodes, warp.encoder, named=named))[0].class_embeddings


def features_of(warp, init, texts):
    return warp.read(shared_parameters(init), warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))


UNEQUAL = Episode.from_texts(
    ["alarm", "weather", "bank", "train"],
    ["set the alarm", "turn on my alarm", "please set it for today", "what is the weather", "will it rain"],
    [0, 0, 0, 1, 1],
)


def unit_means(support):
    """Means of the support features of the first two classes, with unit length."""
    return normalize(torch.stack([support[:3].mean(0), support[3:].mean(0)]), dim=-1)


def test_class_embeddings_from_names_are_the_names_read_like_texts(tiny):
    warp, init = tiny_model(tiny, verbalizer="names")
    expected = features_of(warp, init, UNEQUAL.class_names)
    assert torch.allclose(embeddings_of(warp, init, [UNEQUAL])[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("verbalizer", "named"), [("support", True), ("mix", False), ("names", False)])
def test_class_embeddings_from_support_are_the_means_of_each_class(tiny, verbalizer, named):
    warp, init = tiny_model(tiny, verbalizer=verbalizer)
    episode = Episode.from_texts(UNEQUAL.class_names[:2], UNEQUAL.support_texts, UNEQUAL.support_labels.tolist())
    expected = unit_means(features_of(warp, init, episode.support_texts))
    assert torch.allclose(embeddings_of(warp, init, [episode], named)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [-3.0, 0.0, 1.5])
def test_mixed_class_embeddings_lean_on_the_names_the_less_the_more_shots_a_class_has(tiny, m):
    warp, init = tiny_model(tiny, verbalizer="mix")
    init = replace(init, name_weight=torch.tensor(m, dtype=torch.float64))
    names = features_of(warp, init, UNEQUAL.class_names)
    means = unit_means(features_of(warp, init, UNEQUAL.support_texts))
    w = torch.tensor([[1 / (1 + 3 * math.exp(m))], [1 / (1 + 2 * math.exp(m))]], dtype=torch.float64)
    expected = normalize(torch.cat([w * names[:2] + (1 - w) * means, names[2:]]), dim=-1)
    assert torch.allclose(embeddings_of(warp, init, [UNEQUAL])[0], expected, rtol=0, atol=1e-12)


def test_mixed_class_embeddings_at_zero_shots_are_the_names(tiny):
    mix, init = tiny_model(tiny, verbalizer="mix")
    names, _ = tiny_model(tiny, verbalizer="names")
    episodes = tiny_episodes(2, k_shot=0)
    assert torch.equal(embeddings_of(mix, init, episodes), embeddings_of(names, init, episodes))


def test_names_by_their_word_embeddings(tiny_mlm):
    warp, init = tiny_model(tiny_mlm, verbalizer="names", read_out="mask", name_source="embeddings")
    names = ["the weather", "bank"]
    ids = [tiny_mlm.tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
    assert list(map(len, ids)) == [2, 1]
    expected = normalize(torch.stack([tiny_mlm.word_embeddings[some].mean(0) for some in ids]), dim=-1)
    found = embeddings_of(warp, init, [Episode.from_texts(names, ["the sun"], [0])])[0]
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_a_name_that_the_tokenizer_does_not_know_still_gives_a_finite_embedding(tiny, tiny_mlm):
    episode = Episode.from_texts(["☃", "bank"], ["the sun"], [0])
    for warp, init in (tiny_model(tiny), tiny_model(tiny_mlm, read_out="mask", name_source="embeddings")):
        assert embeddings_of(warp, init, [episode]).isfinite().all()


def test_classes_beyond_a_task_get_no_embedding_of_another_task(tiny):
    warp, init = tiny_model(tiny)
    small, large = tiny_episodes(1, n_way=2)[0], tiny_episodes(1, n_way=4, seed=1)[0]
    found = embeddings_of(warp, init, [small, large])
    assert torch.allclose(found[0, :2], embeddings_of(warp, init, [small])[0], rtol=0, atol=1e-12)
    assert torch.allclose(found[1], embeddings_of(warp, init, [large])[0], rtol=0, atol=1e-12)
    assert (found[0, 2:] == 1).all()  # what they are is masked away; zero has no second derivative of its norm


@pytest.mark.parametrize("episode", [UNEQUAL, *tiny_episodes(1, k_shot=0)], ids=["a class without", "none at all"])
def test_class_embeddings_from_support_need_a_text_of_every_class(tiny, episode):
    warp, init = tiny_model(tiny, verbalizer="support")
    with refused("at least one text per class", "class_names", "'mix'"):
        embeddings_of(warp, init, [episode])


def test_word_embeddings_as_class_embeddings_need_a_masked_lm_head(tiny, tiny_mlm):
    for backbone, read_out in ((tiny, "mask"), (tiny_mlm, "text")):
        with refused("name_source='embeddings'", f"read_out={read_out!r}", repr(backbone.name), "'template'"):
            Warp(backbone, WarpConfig(read_out=read_out, name_source="embeddings"))


# The untrained baselines as special cases of the model ------------------------------------------------------------

EPISODES = 8


@pytest.fixture(scope="module")
def encode(minilm):
    return SentenceEncoder(minilm, 128, 0, FeatureCache())


def real_episodes(everyday, k_shot, balanced=True):
    sampler = EpisodeSampler(everyday.test, 5, k_shot, 3, seed=11, balanced=balanced)
    return [sampler[i] for i in range(EPISODES)]


def assert_same_predictions(found, expected, episodes):
    found, expected = ([scores.argmax(1) for scores in some] for some in (found, expected))
    assert len(found) == len(expected) == EPISODES
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)
    right = [np.mean(ours == e.query_labels) for ours, e in zip(found, episodes, strict=True)]
    assert 0.4 < np.mean(right) < 1.0, "real predictions, neither chance nor trivially all right"


@pytest.mark.parametrize(("k_shot", "w"), [(0, 0.5), (1, 0.75), (5, 0.4)])
def test_the_untrained_init_predicts_exactly_what_prototypes_and_names_does(minilm, everyday, encode, k_shot, w):
    init = untrained(minilm)
    parameters = init.on(minilm)
    if k_shot:
        parameters = replace(parameters, name_weight=torch.tensor(math.log((1 / w - 1) / k_shot)))
    episodes = real_episodes(everyday, k_shot)
    found = metawarp_predictor(init.bind(minilm), parameters, init.inner)(episodes)
    assert_same_predictions(found, prototypes_and_names(encode, {k_shot: w}, episodes), episodes)


def test_so_it_does_with_its_own_weight_and_unequal_shots(minilm, everyday, encode):
    init = untrained(minilm)
    assert init.parameters.name_weight == torch.tensor(NAME_WEIGHT)
    episodes = real_episodes(everyday, (0, 4), balanced=False)
    assert any(len(set(episode.shots.tolist())) > 1 for episode in episodes)
    found = metawarp_predictor(init.bind(minilm), init.on(minilm), init.inner)(episodes)
    assert_same_predictions(found, prototypes_and_names(encode, {}, episodes), episodes)


@pytest.mark.parametrize("k_shot", [1, 5])
def test_with_the_verbalizer_support_it_predicts_exactly_what_prototypes_does(minilm, everyday, encode, k_shot):
    warp = Warp(minilm, WarpConfig(template="{text}", read_out="mean", verbalizer="support"))
    init, episodes = Init.start(warp, NO_STEPS).on(minilm), real_episodes(everyday, k_shot)
    assert_same_predictions(metawarp_predictor(warp, init, NO_STEPS)(episodes), prototypes(encode, episodes), episodes)
