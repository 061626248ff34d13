"""Rows for classes never seen: each recipe by hand, and the untrained baseline as a special case of the model."""

import math

import numpy as np
import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_episodes, tiny_model, weights_of
from torch.nn.functional import normalize

from episodes import Episode, EpisodeSampler, InputError
from metawarp import Warp, WarpConfig
from metawarp.adaptation.adapt import start
from metawarp.adaptation.tasks import TaskBatch
from metawarp.evaluation.baselines import SentenceEncoder, prototypes, prototypes_and_names
from metawarp.evaluation.scores import metawarp_predictor
from metawarp.inits.init import Init, untrained
from metawarp.inits.start import NAME_WEIGHT


def rows_of(warp, state, episodes):
    """Initial rows (T, C, d)."""
    return start(warp, state, TaskBatch.encode(episodes, warp.encoder))[0]["rows"]


def features_of(warp, state, texts):
    task = torch.zeros(len(texts), dtype=torch.long)
    return warp.features(state["prompt"][None], weights_of(state), warp.encoder(texts), task)


UNEQUAL = Episode.from_texts(
    ["alarm", "weather", "bank", "train"],
    ["set the alarm", "turn on my alarm", "please set it for today", "what is the weather", "will it rain"],
    [0, 0, 0, 1, 1],
)


@pytest.fixture(params=["cosine", "dot"])
def similarity(request):
    return request.param


def test_rows_from_names_are_the_names_read_like_texts(tiny, similarity):
    warp, state = tiny_model(tiny, rows="names", similarity=similarity)
    expected = features_of(warp, state, UNEQUAL.class_names)
    assert torch.allclose(rows_of(warp, state, [UNEQUAL])[0], expected, rtol=0, atol=1e-12)


def test_rows_from_support_are_the_means_of_each_class(tiny, similarity):
    warp, state = tiny_model(tiny, rows="support", similarity=similarity)
    episode = Episode.from_texts(UNEQUAL.class_names[:2], UNEQUAL.support_texts, UNEQUAL.support_labels.tolist())
    features = features_of(warp, state, episode.support_texts)
    expected = warp.unit(torch.stack([features[:3].mean(0), features[3:].mean(0)]))
    assert torch.allclose(rows_of(warp, state, [episode])[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [-3.0, 0.0, 1.5])
def test_mixed_rows_lean_on_the_names_the_less_the_more_shots_a_class_has(tiny, similarity, m):
    warp, state = tiny_model(tiny, rows="mix", similarity=similarity)
    state["name_weight"] = torch.tensor(m, dtype=torch.float64)
    names = features_of(warp, state, UNEQUAL.class_names)
    support = features_of(warp, state, UNEQUAL.support_texts)
    means = warp.unit(torch.stack([support[:3].mean(0), support[3:].mean(0)]))
    w3, w2 = 1 / (1 + 3 * math.exp(m)), 1 / (1 + 2 * math.exp(m))
    expected = torch.stack(
        [w3 * names[0] + (1 - w3) * means[0], w2 * names[1] + (1 - w2) * means[1], names[2], names[3]]
    )
    assert torch.allclose(rows_of(warp, state, [UNEQUAL])[0], warp.unit(expected), rtol=0, atol=1e-12)


def test_mixed_rows_at_zero_shots_are_the_names(tiny):
    mix, state = tiny_model(tiny, rows="mix")
    names, _ = tiny_model(tiny, rows="names")
    episodes = tiny_episodes(2, k_shot=0)
    assert torch.equal(rows_of(mix, state, episodes), rows_of(names, state, episodes))


def test_random_rows_are_the_same_for_every_task_and_batch_and_seed_of_torch(tiny):
    warp, state = tiny_model(tiny, rows="random")
    episodes = tiny_episodes(3)
    rows = rows_of(warp, state, episodes)
    assert torch.equal(rows[0], rows[2])
    with torch.random.fork_rng():
        torch.manual_seed(17)
        assert torch.equal(rows_of(warp, state, episodes[1:2])[0], rows[0])
    assert torch.allclose(rows.norm(dim=-1), torch.ones(3, 3, dtype=torch.float64))
    assert torch.linalg.matrix_rank(rows[0]) == 3


def test_names_by_their_word_embeddings(tiny_mlm):
    warp, state = tiny_model(tiny_mlm, rows="names", read_out="mask", name_source="embeddings", similarity="dot")
    episode = Episode.from_texts(["the weather", "bank"], ["the sun"], [0])
    embeddings = tiny_mlm.word_embeddings

    def ids(name):
        return tiny_mlm.tokenizer(name, add_special_tokens=False)["input_ids"]

    assert len(ids("the weather")) == 2
    expected = torch.stack([embeddings[ids("the weather")].mean(0), embeddings[ids("bank")].mean(0)])
    assert torch.allclose(rows_of(warp, state, [episode])[0], expected, rtol=0, atol=1e-12)


def test_a_name_that_the_tokenizer_does_not_know_still_gives_a_finite_row(tiny, tiny_mlm):
    episode = Episode.from_texts(["☃", "bank"], ["the sun"], [0])
    for warp, state in (tiny_model(tiny), tiny_model(tiny_mlm, read_out="mask", name_source="embeddings")):
        assert rows_of(warp, state, [episode]).isfinite().all()


def test_classes_beyond_a_task_get_no_row_of_another_task(tiny):
    warp, state = tiny_model(tiny)
    small, large = tiny_episodes(1, n_way=2)[0], tiny_episodes(1, n_way=4, seed=1)[0]
    rows = rows_of(warp, state, [small, large])
    assert torch.allclose(rows[0, :2], rows_of(warp, state, [small])[0], rtol=0, atol=1e-12)
    assert torch.allclose(rows[1], rows_of(warp, state, [large])[0], rtol=0, atol=1e-12)
    assert (rows[0, 2:] == 1).all()  # what they are is masked away; zero has no second derivative of its norm


def test_rows_from_support_need_a_text_of_every_class(tiny):
    warp, state = tiny_model(tiny, rows="support")
    message = "rows from support texts need one text a class at least; use names or mix at zero shots."
    with refused(message):
        rows_of(warp, state, [UNEQUAL])
    with refused(message):
        rows_of(warp, state, tiny_episodes(1, k_shot=0))


def test_word_embeddings_as_rows_need_a_masked_lm_head(tiny, tiny_mlm):
    with refused(
        "word embeddings live where the features of a masked-LM head at [MASK] do, and not where those of "
        f"backbone {tiny.name!r} with read-out 'mask' are; use name_source template."
    ):
        Warp(tiny, WarpConfig(read_out="mask", name_source="embeddings"))
    with pytest.raises(InputError, match=r"^word embeddings live where .* with read-out 'text' are; use name_source"):
        Warp(tiny_mlm, WarpConfig(read_out="text", name_source="embeddings"))


# The untrained baselines as special cases of the model ------------------------------------------------------------

EPISODES = 30


@pytest.fixture(scope="module")
def encode(minilm):
    return SentenceEncoder(minilm, 128)


def real_episodes(everyday, k_shot, balanced=True):
    sampler = EpisodeSampler(everyday.test, 5, k_shot, 3, seed=11, balanced=balanced)
    return [sampler[i] for i in range(EPISODES)]


def assert_same_predictions(found, expected, episodes):
    found, expected = ([scores.argmax(1) for scores in of] for of in (found, expected))
    assert len(found) == len(expected) == EPISODES
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)
    right = [np.mean(ours == e.query_labels) for ours, e in zip(found, episodes, strict=True)]
    assert 0.4 < np.mean(right) < 1.0, "real predictions, neither chance nor trivially all right"


@pytest.mark.parametrize(("k_shot", "w"), [(0, 0.5), (1, 0.75), (5, 0.4)])
def test_the_untrained_init_predicts_exactly_what_prototypes_and_names_does(minilm, everyday, encode, k_shot, w):
    init = untrained(minilm)
    state = init.to(minilm)
    if k_shot:
        state["name_weight"] = torch.tensor(math.log((1 / w - 1) / k_shot))
    episodes = real_episodes(everyday, k_shot)
    found = metawarp_predictor(init.bind(minilm), state, init.inner)(episodes)
    assert_same_predictions(found, prototypes_and_names(encode, {k_shot: w}, episodes), episodes)


def test_so_it_does_with_its_own_weight_and_unequal_shots(minilm, everyday, encode):
    init = untrained(minilm)
    assert init.tensors["name_weight"] == torch.tensor(NAME_WEIGHT)
    episodes = real_episodes(everyday, (0, 4), balanced=False)
    assert any(len(set(episode.shots.tolist())) > 1 for episode in episodes)
    found = metawarp_predictor(init.bind(minilm), init.to(minilm), init.inner)(episodes)
    assert_same_predictions(found, prototypes_and_names(encode, {}, episodes), episodes)


@pytest.mark.parametrize("k_shot", [1, 5])
def test_with_rows_from_support_it_predicts_exactly_what_prototypes_does(minilm, everyday, encode, k_shot):
    warp = Warp(minilm, WarpConfig(template="{text}", read_out="mean", rows="support"))
    state = Init.start(warp, NO_STEPS).to(minilm)
    episodes = real_episodes(everyday, k_shot)
    assert_same_predictions(metawarp_predictor(warp, state, NO_STEPS)(episodes), prototypes(encode, episodes), episodes)


def test_rows_of_the_untrained_init_are_those_of_the_baseline(minilm, everyday, encode):
    init, (episode, *_) = untrained(minilm), real_episodes(everyday, 5)
    found = rows_of(init.bind(minilm), init.to(minilm), [episode])[0].detach()
    means = encode(episode.support_texts).reshape(5, 5, -1).mean(1)
    w = 1 / (1 + 5 * math.exp(NAME_WEIGHT))
    expected = w * torch.tensor(encode(episode.class_names)) + (1 - w) * normalize(torch.tensor(means), dim=-1)
    assert torch.allclose(found, normalize(expected, dim=-1), atol=1e-6)
