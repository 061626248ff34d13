"""Corpora of masked words, merged classes and opposed classes."""

import numpy as np
import pytest
from running import refused
from tiny import tiny_corpus

from episodes import Corpus, EpisodeSampler
from episodes.derived import GAP, masked_words, merged_classes, opposed_class

WORDS = ["music", "weather", "alarm", "train"]
FILLERS = ["red", "green", "blue", "black", "white", "brown", "pink", "gray", "gold", "silver"]


def sentences(number=12):
    """For each word, some sentences that contain it, and one word that all sentences contain."""
    return [f"Sentence {i}: {word.title()} is {FILLERS[i % 10]} {word}s" for word in WORDS for i in range(number)]


def test_the_classes_are_words_and_their_texts_have_gaps():
    corpus = masked_words(sentences(), least=10, largest_share=0.3)
    assert set(WORDS) <= set(corpus.class_names) and "sentence" not in corpus.class_names
    for c, word in enumerate(corpus.class_names):
        for row in corpus.rows_of(c):
            words = corpus.texts[row].lower().split()
            assert GAP in words and word not in words
    music = [corpus.texts[row] for row in corpus.rows_of(corpus.class_names.index("music"))]
    assert any(f"{GAP} is red musics" in text for text in music), "a longer word stays"


def test_the_same_texts_give_the_same_corpus_and_episodes():
    one, two = (
        masked_words(sentences(), least=5, largest_share=0.3),
        masked_words(sentences(), least=5, largest_share=0.3),
    )
    assert one.fingerprint == two.fingerprint
    episode = EpisodeSampler(one, 3, 2, 2)[0]
    assert len(set(episode.support_texts) | set(episode.query_texts)) == 12


def test_the_number_of_words_is_limited_to_the_most_frequent():
    texts = [*sentences(), *(f"music {i} {FILLERS[i % 10]} again and" for i in range(12, 22))]
    corpus = masked_words(texts, n_words=2, least=5, largest_share=0.5)
    assert corpus.n_classes == 2


def test_texts_without_frequent_words_are_refused():
    with refused("masked words", "at least 2 words", "20 texts"):
        masked_words(["one text", "another text"])


def test_merged_classes_have_the_texts_of_their_classes():
    corpus = tiny_corpus(n_classes=5, n_texts=6)
    merged = merged_classes(corpus, 2, seed=1)
    assert merged.n_classes == 2 and len(merged) == 24
    for c, name in enumerate(merged.class_names):
        names = name.split(" or ")
        expected = {corpus.texts[row] for one in names for row in corpus.rows_of(corpus.class_names.index(one))}
        assert {merged.texts[row] for row in merged.rows_of(c)} == expected
    assert merged_classes(corpus, 2, seed=1).fingerprint == merged.fingerprint
    assert len({merged_classes(corpus, 2, seed=seed).class_names for seed in range(5)}) > 1


@pytest.mark.parametrize("group_size", [1, 3])
def test_classes_that_are_not_two_groups_are_refused(group_size):
    with refused("tiny has 5 classes", f"groups of {group_size}"):
        merged_classes(tiny_corpus(n_classes=5, n_texts=6), group_size)


def test_an_opposed_class_stands_beside_as_many_texts_of_the_others():
    corpus = tiny_corpus(n_classes=4, n_texts=6)
    opposed = opposed_class(corpus, corpus.class_names[2])
    assert opposed.class_names == (corpus.class_names[2], "other")
    assert np.bincount(opposed.labels).tolist() == [6, 6]
    own = {corpus.texts[row] for row in corpus.rows_of(2)}
    assert {opposed.texts[row] for row in opposed.rows_of(0)} == own
    assert not own & {opposed.texts[row] for row in opposed.rows_of(1)}
    with refused("tiny has no class 'other'"):
        opposed_class(corpus, "other")


def test_a_text_that_two_words_share_is_in_one_class_alone():
    corpus = masked_words(sentences() + ["music and weather"] * 3, least=5, largest_share=0.3)
    assert isinstance(corpus, Corpus) and corpus.n_duplicates == 0
