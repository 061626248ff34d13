"""Class embeddings of each verbalizer, and the untrained baselines as special cases of the model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from tiny import NO_STEPS, features, tiny_episodes, tiny_model, without_names
from torch.nn.functional import normalize
from torch.testing import assert_close

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.start import start
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.sentence_baselines import SentenceEncoder, prototypes, prototypes_and_names
from metawarp.inits.defaults import untrained
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.mix import NAME_WEIGHT


def embeddings_of(warp, init, episodes, named=True):
    """Class embeddings (T, C, d) before any inner step."""
    return start(warp, init, TaskBatch.encode(episodes if named else without_names(episodes), warp.encoder))[
        0
    ].class_embeddings


UNEQUAL = Episode.from_texts(
    ["alarm", "weather", "bank", "train"],
    ["set the alarm", "turn on my alarm", "please set it for today", "what is the weather", "will it rain"],
    [0, 0, 0, 1, 1],
)


def unit_means(support):
    """Means (2, d) of the support features of the first two classes of `UNEQUAL`, with unit length."""
    return normalize(torch.stack([support[:3].mean(0), support[3:].mean(0)]), dim=-1)


def test_class_embeddings_from_names_are_the_features_of_the_names(tiny):
    warp, init = tiny_model(tiny, verbalizer="names")
    expected = features(warp, init, UNEQUAL.class_names)
    assert_close(embeddings_of(warp, init, [UNEQUAL])[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("verbalizer", "named"), [("support", True), ("mix", False), ("names", False)])
def test_class_embeddings_from_support_are_the_means_of_each_class(tiny, verbalizer, named):
    warp, init = tiny_model(tiny, verbalizer=verbalizer)
    episode = Episode.from_texts(UNEQUAL.class_names[:2], UNEQUAL.support_texts, UNEQUAL.support_labels.tolist())
    expected = unit_means(features(warp, init, episode.support_texts))
    assert_close(embeddings_of(warp, init, [episode], named)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [-3.0, 0.0, 1.5])
def test_the_weight_of_a_name_in_mixed_class_embeddings_falls_with_the_shots(tiny, m):
    warp, init = tiny_model(tiny, verbalizer="mix")
    init = replace(init, name_weight=torch.tensor(m, dtype=torch.float64))
    names = features(warp, init, UNEQUAL.class_names)
    means = unit_means(features(warp, init, UNEQUAL.support_texts))
    w = torch.tensor([[1 / (1 + 3 * math.exp(m))], [1 / (1 + 2 * math.exp(m))]], dtype=torch.float64)
    # The last two classes have no texts, only names.
    expected = normalize(torch.cat([w * names[:2] + (1 - w) * means, names[2:]]), dim=-1)
    assert_close(embeddings_of(warp, init, [UNEQUAL])[0], expected, rtol=0, atol=1e-12)


def test_a_name_can_be_the_mean_of_its_word_embeddings(tiny_mlm):
    warp, init = tiny_model(tiny_mlm, verbalizer="names", read_out="mask", name_source="embeddings")
    names = ["the weather", "bank"]
    ids = [tiny_mlm.tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
    assert list(map(len, ids)) == [2, 1]
    expected = normalize(torch.stack([tiny_mlm.word_embeddings[some].mean(0) for some in ids]), dim=-1)
    found = embeddings_of(warp, init, [Episode.from_texts(names, ["the sun"], [0])])[0]
    assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_name_that_the_tokenizer_does_not_know_still_gives_a_finite_embedding(tiny, tiny_mlm):
    episode = Episode.from_texts(["☃", "bank"], ["the sun"], [0])
    for warp, init in (tiny_model(tiny), tiny_model(tiny_mlm, read_out="mask", name_source="embeddings")):
        assert embeddings_of(warp, init, [episode]).isfinite().all()


def test_classes_beyond_a_task_get_no_embedding_of_another_task(tiny):
    warp, init = tiny_model(tiny)
    small, large = tiny_episodes(1, n_way=2)[0], tiny_episodes(1, n_way=4, seed=1)[0]
    found = embeddings_of(warp, init, [small, large])
    assert_close(found[0, :2], embeddings_of(warp, init, [small])[0], rtol=0, atol=1e-12)
    assert_close(found[1], embeddings_of(warp, init, [large])[0], rtol=0, atol=1e-12)
    assert (found[0, 2:] == 1).all()  # their logits are masked; the norm of 0 would have no second derivative


@pytest.mark.parametrize("episode", [UNEQUAL, *tiny_episodes(1, k_shot=0)], ids=["a class without", "none at all"])
def test_class_embeddings_from_support_need_a_text_of_every_class(tiny, episode):
    warp, init = tiny_model(tiny, verbalizer="support")
    with refused("at least one text per class", "class_names", "'regression'"):
        embeddings_of(warp, init, [episode])


def test_word_embeddings_as_class_embeddings_need_a_masked_lm_head(tiny, tiny_mlm):
    for backbone, read_out in ((tiny, "mask"), (tiny_mlm, "text")):
        with refused("name_source='embeddings'", f"read_out={read_out!r}", repr(backbone.name), "'template'"):
            Warp(backbone, WarpConfig(read_out=read_out, name_source="embeddings"))


# The untrained baselines as special cases of the model ------------------------------------------------------------


@pytest.fixture(scope="module")
def encode(minilm):
    return SentenceEncoder(minilm, 128, 0, FeatureCache())


def real_episodes(everyday, k_shot, balanced=True):
    sampler = EpisodeSampler(everyday.test, 5, k_shot, 3, seed=11, balanced=balanced)
    return [sampler[i] for i in range(4)]


def assert_same_predictions(warp, parameters, expected, episodes):
    """Check that the model predicts like a baseline: neither by chance, nor without a mistake."""
    found = metawarp_predictor(warp, parameters, NO_STEPS)(episodes)
    correct = []
    for ours, theirs, episode in zip(found, expected, episodes, strict=True):
        assert np.array_equal(ours.argmax(1), theirs.argmax(1))
        correct.append(np.mean(ours.argmax(1) == episode.query_labels))
    assert 0.4 < np.mean(correct) < 1.0


@pytest.mark.parametrize(("k_shot", "w"), [(0, 0.5), (1, 0.75), (5, 0.4), ((0, 4), None)])
def test_the_untrained_init_predicts_like_prototypes_and_names(minilm, everyday, encode, k_shot, w):
    init, episodes = untrained(minilm), real_episodes(everyday, k_shot, balanced=w is not None)
    parameters = init.on(minilm)
    assert parameters.name_weight == torch.tensor(NAME_WEIGHT), "both have the same default weight of a name"
    if k_shot and w:
        parameters = replace(parameters, name_weight=torch.tensor(math.log((1 / w - 1) / k_shot)))
    expected = prototypes_and_names(encode, {k_shot: w} if w else {}, episodes)
    assert_same_predictions(init.bind(minilm), parameters, expected, episodes)


@pytest.mark.parametrize("k_shot", [1, 5])
def test_the_verbalizer_support_predicts_like_prototypes(minilm, everyday, encode, k_shot):
    warp = Warp(minilm, WarpConfig(template="{text}", read_out="mean", verbalizer="support"))
    init, episodes = Init.start(warp, NO_STEPS).on(minilm), real_episodes(everyday, k_shot)
    assert_same_predictions(warp, init, prototypes(encode, episodes), episodes)
