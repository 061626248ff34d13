"""Samplers: episodes are disjoint, have the requested shape, and depend on the seed and the index alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from running import refused

from episodes import Corpus, Episode, EpisodeSampler, MixtureSampler
from episodes.sampler import bounds


def corpus_of(n_classes=8, n_texts=20, name="corpus"):
    """Class c has the texts "c/0", "c/1" …, its rows scattered over the corpus."""
    texts = tuple(f"{c}/{i}" for i in range(n_texts) for c in range(n_classes))
    return Corpus(texts, np.arange(len(texts)) % n_classes, tuple(map(str, range(n_classes))), name)


def numbers_of(episode):
    names = ("class_indices", "support", "support_labels", "query", "query_labels")
    return {name: getattr(episode, name).tolist() for name in names}


# Properties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_way", "k_shot", "n_query", "balanced"),
    [(5, 5, 10, True), (2, 0, 1, True), (8, 19, 1, True), ((2, 6), (0, 5), 3, True), ((3, 8), (1, 7), 2, False)],
)
def test_every_episode_is_a_proper_task(n_way, k_shot, n_query, balanced):
    corpus = corpus_of()
    sampler = EpisodeSampler(corpus, n_way, k_shot, n_query, seed=3, balanced=balanced)
    for i in range(60):
        episode = sampler[i]
        ways, shots = episode.n_way, episode.shots
        assert sampler.n_way[0] <= ways <= sampler.n_way[1]
        assert np.all((sampler.k_shot[0] <= shots) & (shots <= sampler.k_shot[1]))
        assert not balanced or len(set(shots.tolist())) == 1
        assert np.bincount(episode.query_labels).tolist() == [n_query] * ways
        assert len(set(episode.class_indices.tolist())) == ways == len(episode.class_names)
        rows = [*episode.support.tolist(), *episode.query.tolist()]
        assert len(set(rows)) == len(rows)
        texts, labels = [*episode.support_texts, *episode.query_texts], [*episode.support_labels, *episode.query_labels]
        assert [corpus.labels[row] for row in rows] == episode.class_indices[labels].tolist()
        assert [text.split("/")[0] for text in texts] == [episode.class_names[label] for label in labels]
        arrays = (episode.class_indices, episode.support, shots, episode.support_labels, episode.query_labels)
        assert all(array.dtype == np.int64 for array in arrays)


def test_episode_i_is_the_same_in_any_order():
    first, second = (EpisodeSampler(corpus_of(), (2, 6), (0, 5), 3, seed=1) for _ in range(2))
    forwards = {i: numbers_of(first[i]) for i in range(20)}
    backwards = {i: numbers_of(second[i]) for i in reversed(range(20))}
    assert forwards == backwards
    index: Any = np.int64(7)
    assert numbers_of(first[index]) == forwards[7]


def test_seeds_and_indices_give_different_episodes():
    corpus = corpus_of()
    episodes = [EpisodeSampler(corpus, seed=seed)[i] for seed in range(10) for i in range(10)]
    assert len({tuple(episode.query.tolist()) for episode in episodes}) == 100


def test_every_class_is_used_in_every_position_and_every_text():
    sampler = EpisodeSampler(corpus_of(n_classes=4, n_texts=5), n_way=2, k_shot=1, n_query=1)
    episodes = [sampler[i] for i in range(400)]
    counts = np.bincount([episode.class_indices[0] for episode in episodes], minlength=4)
    assert counts.min() > 70  # 100 expected, standard deviation 8.7
    assert len({int(row) for episode in episodes for row in episode.support}) == 20


def test_episodes_of_different_shots_share_queries_and_support():
    corpus = corpus_of()
    zero, one, five = (EpisodeSampler(corpus, k_shot=k, seed=2)[4] for k in (0, 1, 5))
    assert zero.support.tolist() == []
    assert zero.query.tolist() == one.query.tolist() == five.query.tolist()
    assert zero.class_names == one.class_names == five.class_names
    assert one.support.tolist() == five.support[::5].tolist()


def test_every_number_of_a_range_is_drawn():
    sampler = EpisodeSampler(corpus_of(), n_way=(2, 4), k_shot=(0, 3), n_query=1, balanced=False)
    episodes = [sampler[i] for i in range(200)]
    assert {episode.n_way for episode in episodes} == {2, 3, 4}
    assert {int(shots) for episode in episodes for shots in episode.shots} == {0, 1, 2, 3}
    assert any(len(set(episode.shots.tolist())) > 1 for episode in episodes)


def test_sampling_never_reads_a_text():
    corpus = corpus_of()
    object.__setattr__(corpus, "texts", ())  # every text that is read raises IndexError
    episode = EpisodeSampler(corpus)[0]
    with pytest.raises(IndexError):
        _ = episode.query_texts


def test_episodes_are_the_recorded_ones_on_every_machine():
    corpus = corpus_of(n_classes=6, n_texts=6)
    labels = [0, 0, 1, 1, 2, 2]
    fixed = EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=2, seed=0)[0]
    recorded = [[3, 2, 5], [9, 15, 2, 32, 17, 11], labels, [27, 33, 20, 14, 35, 29], labels]
    assert list(numbers_of(fixed).values()) == recorded
    ranged = EpisodeSampler(corpus, n_way=(2, 4), k_shot=(0, 3), n_query=1, seed=0, balanced=False)[12345]
    assert list(numbers_of(ranged).values()) == [[2, 5], [5, 17], [1, 1], [20, 35], [0, 1]]


# Unlabelled texts ------------------------------------------------------------------------------------------


def test_unlabelled_texts_are_of_the_classes_and_neither_support_nor_query():
    corpus = corpus_of()
    sampler = EpisodeSampler(corpus, n_way=4, k_shot=(0, 5), n_query=3, n_unlabelled=24)
    for i in range(30):
        episode = sampler[i]
        assert len(set(episode.unlabelled.tolist())) == 24 == len(episode.unlabelled_texts)
        assert not set(episode.unlabelled) & {*episode.support, *episode.query}
        counts = np.bincount(corpus.labels[episode.unlabelled], minlength=8)
        assert counts[episode.class_indices].tolist() == [6] * 4
        assert numbers_of(episode) == numbers_of(EpisodeSampler(corpus, 4, (0, 5), 3)[i])
        assert episode.unlabelled.tolist() == sampler[i].unlabelled.tolist()


def test_the_number_of_unlabelled_texts_can_be_a_range_and_is_limited_by_the_corpus():
    ranged = EpisodeSampler(corpus_of(), 3, 1, 2, n_unlabelled=(0, 9))
    assert {len(ranged[i].unlabelled) for i in range(100)} == set(range(10))
    assert len(EpisodeSampler(corpus_of(), 3, 1, 2, n_unlabelled=1000)[0].unlabelled) == 3 * 17


@pytest.mark.parametrize("k_shot", [0, 1, 5])
def test_unlabelled_texts_are_the_same_for_all_shots(k_shot):
    one, other = (EpisodeSampler(corpus_of(), 5, k, 4, seed=3, n_unlabelled=30)[7] for k in (2, k_shot))
    assert one.unlabelled.tolist() == other.unlabelled.tolist()


def test_distractors_are_of_other_classes_and_a_skew_makes_classes_rare():
    corpus = corpus_of(n_texts=100)
    sampler = EpisodeSampler(corpus, 4, 1, 1, n_unlabelled=100, distractors=0.3, skew=20)
    rarest = set[int]()
    for i in range(30):
        episode = sampler[i]
        counts = np.bincount(corpus.labels[episode.unlabelled], minlength=8)
        own = counts[episode.class_indices]
        assert counts.sum() == 100 and own.sum() == 70
        assert own.min() * 15 <= own.max() <= own.min() * 25
        rarest.add(int(own.argmin()))
    assert rarest == set(range(4)), "every class is the rarest one at times"


# Episodes that cannot be sampled -------------------------------------------------------------------------------


def test_duplicate_texts_are_refused():
    corpus = Corpus(("one", "two", " one ", "three"), np.array([0, 0, 1, 1]), ("a", "b"), "mine")
    with refused("mine contains 1 duplicate texts", "Corpus.load"):
        EpisodeSampler(corpus, n_way=2, k_shot=1, n_query=1)


def test_a_row_that_is_both_support_and_query_is_refused():
    episode = EpisodeSampler(corpus_of(n_classes=3), n_way=2, k_shot=2, n_query=2)[0]
    with refused("both support and query", episode.support[0]):
        replace(episode, query=episode.support[:1], query_labels=episode.support_labels[:1])


def test_classes_with_too_few_texts_are_named():
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3])
    corpus = Corpus(tuple(map(str, range(12))), labels, ("a", "b", "c", "d"), "few")
    with refused("k_shot=2", "n_query=2", "4 texts", "few", "'a' has 2, 'c' has 1, 'd' has 3;"):
        EpisodeSampler(corpus, n_way=2, k_shot=(1, 2), n_query=2)
    with refused("k_shot=11", "n_query=10", "21 texts", *(f"'{i}' has 20" for i in range(10)), "and 3 more"):
        EpisodeSampler(corpus_of(n_classes=13), k_shot=11)


FOUR_DOMAINS, TWO_DOMAINS = ("a", "b", "c", "d") * 2, ("a", "b") * 4
IMPOSSIBLE: list[tuple[dict[str, Any], tuple[str, ...], list[str]]] = [
    ({"n_way": 9}, (), ["n_way=9", "corpus has 8 classes"]),
    ({"n_way": (2, 10)}, (), ["n_way=10", "corpus has 8 classes"]),
    ({"n_way": 1}, (), ["n_way=1", "at least 2", "(low, high)"]),
    ({"n_way": (5, 3)}, (), ["n_way=(5, 3)", "(low, high)"]),
    ({"n_way": 2.5}, (), ["n_way=2.5", "integer"]),
    ({"k_shot": -1}, (), ["k_shot=-1", "at least 0"]),
    ({"k_shot": (1, 2, 3)}, (), ["k_shot=(1, 2, 3)", "(low, high)"]),
    ({"n_query": 0}, (), ["n_query=0", "at least 1"]),
    ({"seed": -1}, (), ["seed=-1", "at least 0"]),
    ({"balanced": False}, (), ["balanced=False", "(1, 5)", "k_shot=5"]),
    ({"within_domains": 0.5}, (), ["within_domains=0.5", "corpus has no domains"]),
    ({"n_way": 3, "within_domains": 0.5}, FOUR_DOMAINS, ["within_domains=0.5", "no domain with 3 classes"]),
    ({"n_way": 3, "within_domains": 1.5}, TWO_DOMAINS, ["within_domains=1.5", "from 0 to 1"]),
]


@pytest.mark.parametrize(("arguments", "domains", "facts"), IMPOSSIBLE)
def test_impossible_episodes_are_refused(arguments, domains, facts):
    with refused(*facts):
        EpisodeSampler(replace(corpus_of(), domains=domains), **arguments)


@pytest.mark.parametrize("wrap", [lambda sampler: sampler, lambda sampler: MixtureSampler([sampler])])
def test_negative_indices_are_refused(wrap):
    with refused("numbered from 0 on", "-1", error=IndexError):
        wrap(EpisodeSampler(corpus_of()))[-1]


# Domains ---------------------------------------------------------------------------------------------------


def test_a_share_of_the_episodes_keeps_within_one_domain():
    corpus = replace(corpus_of(9), domains=("a", "b", "c") * 3)
    for share, least, most in ((0.0, 0, 40), (0.5, 80, 140), (1.0, 200, 200)):
        sampler = EpisodeSampler(corpus, n_way=(2, 5), k_shot=1, n_query=2, within_domains=share)
        episodes = [sampler[i] for i in range(200)]
        domains = [{corpus.domains[c] for c in episode.class_indices} for episode in episodes]
        assert least <= sum(len(some) == 1 for some in domains) <= most
    assert set.union(*domains) == {"a", "b", "c"}
    assert {episode.n_way for episode in episodes} == {2, 3}, "a domain has 3 classes"


def test_unused_domains_do_not_change_the_episodes():
    corpus = corpus_of(9)
    plain, with_domains = (EpisodeSampler(c, 3, 1, 2) for c in (corpus, replace(corpus, domains=("a",) * 9)))
    assert [numbers_of(plain[i]) for i in range(5)] == [numbers_of(with_domains[i]) for i in range(5)]


# Mixtures --------------------------------------------------------------------------------------------------


def test_a_mixture_takes_whole_episodes_in_proportion():
    samplers = [EpisodeSampler(corpus_of(name=name), seed=5) for name in ("x", "y", "z")]
    mixture = MixtureSampler(samplers, weights=[1, 2, 5], seed=0)
    picked = [mixture[i].corpus.name for i in range(800)]
    for name, expected in (("x", 100), ("y", 200), ("z", 500)):
        assert abs(picked.count(name) - expected) < 50  # at least 3.5 standard deviations
    for i in (0, 7, 799):
        chosen = samplers["xyz".index(picked[i])]
        assert numbers_of(mixture[i]) == numbers_of(chosen[i])


def test_a_mixture_does_not_depend_on_order_and_is_even_by_default():
    samplers = [EpisodeSampler(corpus_of(name=name)) for name in ("x", "y")]
    first, second = MixtureSampler(samplers), MixtureSampler(samplers)
    forwards = [first[i].corpus.name for i in range(400)]
    assert forwards == [second[i].corpus.name for i in reversed(range(400))][::-1]
    assert 150 < forwards.count("x") < 250
    other_seed = MixtureSampler(samplers, seed=1)
    assert forwards != [other_seed[i].corpus.name for i in range(400)]


def test_unusable_mixtures_are_refused():
    samplers = [EpisodeSampler(corpus_of())] * 2
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, 1.0, 1.0]):
        with refused(f"weights={weights}", "2 positive numbers"):
            MixtureSampler(samplers, weights)
    with refused("at least one sampler"):
        MixtureSampler([])


def test_the_bounds_of_a_number_are_twice_that_number():
    as_list: Any = [1, 5]  # as configuration files have it
    assert [bounds(5), bounds((1, 5)), bounds(as_list)] == [(5, 5), (1, 5), (1, 5)]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"n_unlabelled": -1}, ["n_unlabelled=-1"]),
        ({"n_unlabelled": 5, "distractors": 1.0}, ["distractors=1.0", "share"]),
        ({"n_unlabelled": 5, "skew": 0.5}, ["skew=0.5", "at least 1"]),
        ({"n_way": 8, "n_unlabelled": 5, "distractors": 0.5}, ["distractors=0.5", "8 of an episode", "lower n_way"]),
    ],
)
def test_impossible_unlabelled_sets_are_refused(options, facts):
    with refused(*facts):
        EpisodeSampler(corpus_of(), **options)


def test_a_task_of_texts_has_unlabelled_ones():
    episode = Episode.from_texts(["a", "b"], ["one", "two"], [0, 1], ["three"], [1], unlabelled_texts=["four", "five"])
    assert (episode.support_texts, episode.query_texts) == (("one", "two"), ("three",))
    assert episode.unlabelled_texts == ("four", "five")
    with refused("The unlabelled texts", "row 1"):
        Episode.from_texts(["a", "b"], unlabelled_texts=[" "])
    with refused("both query and unlabelled", "2"):
        replace(episode, unlabelled=np.array([2]))
