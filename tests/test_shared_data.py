"""The benchmark corpora that lie beside the repository, where they do: loaded, split, sampled."""

from pathlib import Path

import pytest

from episodes import Corpus, EpisodeSampler

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
EXPECTED = {
    # texts (without copies), classes of the three parts, fewest texts of a class
    "huffpost": ((36_000, 36_900), (20, 5, 16)),
    "hwu64": ((10_500, 11_036), (23, 16, 25)),
    "reuters": ((600, 620), (15, 5, 11)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_benchmark_corpus_loads_splits_and_gives_episodes(name):
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (fewest, most), classes = EXPECTED[name]
    corpus = Corpus.load(folder / "data.jsonl")
    assert fewest <= len(corpus) <= most
    split = corpus.split_classes(folder / "splits.json")
    assert tuple(split[part].n_classes for part in ("train", "validation", "test")) == classes
    assert sum(classes) == corpus.n_classes
    assert sum(len(split[part]) for part in ("train", "validation", "test")) == len(corpus)
    for part in ("train", "validation", "test"):
        sampler = EpisodeSampler(split[part], n_way=5, k_shot=5, n_query=10)
        for i in range(20):
            episode = sampler[i]
            assert len(set(episode.support_texts)) == 25
            assert len(set(episode.query_texts)) == 50
            assert not set(episode.support_texts) & set(episode.query_texts)
            assert set(episode.class_names) <= set(split.names()[part])
