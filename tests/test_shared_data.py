"""The benchmark corpora beside the repository, if they are there: loaded, split and sampled, with disjoint parts."""

from functools import cache
from pathlib import Path

import pytest

from episodes import Corpus, EpisodeSampler
from episodes.splits import PARTS
from metawarp import Init
from metawarp.evaluation.evaluate import classes_seen_in_training
from metawarp.inits.shipped import shipped_inits

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
EXPECTED = {
    # fewest and most texts (without copies), classes of the three parts
    "huffpost": ((36_000, 36_900), (20, 5, 16)),
    "hwu64": ((10_500, 11_036), (23, 16, 25)),
    "reuters": ((600, 620), (15, 5, 11)),
}


@cache
def corpus_of(name):
    """A corpus and its split."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    corpus = Corpus.load(folder / "data.jsonl")
    return corpus, corpus.split_classes(folder / "splits.json")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_benchmark_corpus_loads_splits_and_gives_episodes(name):
    (fewest, most), classes = EXPECTED[name]
    corpus, split = corpus_of(name)
    assert fewest <= len(corpus) <= most
    assert tuple(split[part].n_classes for part in PARTS) == classes
    assert sum(classes) == corpus.n_classes
    assert sum(len(split[part]) for part in PARTS) == len(corpus)
    for part in PARTS:
        sampler = EpisodeSampler(split[part], n_way=5, k_shot=5, n_query=10)
        for i in range(20):
            episode = sampler[i]
            assert len(set(episode.support_texts)) == 25
            assert len(set(episode.query_texts)) == 50
            assert not set(episode.support_texts) & set(episode.query_texts)
            assert set(episode.class_names) <= set(split.names()[part])


@pytest.mark.parametrize("name", EXPECTED)
def test_no_text_is_in_two_parts(name):
    _, split = corpus_of(name)
    texts = {part: {" ".join(text.split()).casefold() for text in split[part].texts} for part in PARTS}
    assert not texts["train"] & texts["validation"]
    assert not (texts["train"] | texts["validation"]) & texts["test"]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("init", shipped_inits())
def test_a_shipped_init_was_not_trained_on_a_class_that_is_tested(init, name):
    _, split = corpus_of(name)
    assert classes_seen_in_training(Init.from_pretrained(init), split.test) == []
