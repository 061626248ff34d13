"""What class names say, in the spelling of programs."""

import numpy as np
import pytest
import torch
from tiny import tiny_corpus, tiny_episodes, tiny_model, without_names
from torch.testing import assert_close

from episodes import Corpus, Episode
from episodes.class_words import alike, class_words, spelled_out
from metawarp.adaptation.start import start
from metawarp.texts.task_batch import TaskBatch

SPELLINGS = {
    "playMusic": "play music",
    "PlayMusic": "play music",
    "play_music": "play music",
    "PLAY-MUSIC": "play music",
    "intent.play.music": "intent play music",
    "HTTPError404": "HTTP error 404",
    "addToMyPlaylist": "add to my playlist",
    "sports/winter": "sports winter",
    "приветМир": "привет мир",
    # as they are: words of a language, and names that are spelled in this way
    "alarm query": "alarm query",
    "ear, nose and throat": "ear, nose and throat",
    "world post (2)": "world post (2)",
    "non-profit": "non-profit",
    "U.S.": "U.S.",
    "iPhone": "iPhone",
    "FAQs": "FAQs",
    "mp3": "mp3",
    "C++": "C++",
    ".NET": ".NET",
    "_": "_",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_name_in_the_spelling_of_programs_is_read_as_words(name):
    assert spelled_out(name) == SPELLINGS[name]


@pytest.mark.parametrize("name", ["7", "-1", "3.0", "LABEL_3", "label3", "id-13", "cat_7", "Class 3", "c3", "#3"])
def test_a_number_says_nothing(name):
    assert class_words([name, "refund"]) == (None, "refund")


@pytest.mark.parametrize("name", ["cat", "label", "1 star", "covid19", "B12", "top 10 films", "2nd hand"])
def test_a_name_with_a_number_can_say_something(name):
    assert class_words([name, "refund"])[0] is not None


def test_names_that_differ_in_numbers_alone_say_nothing():
    assert class_words(["dept 1", "dept 12", "Dept 3"]) == (None,) * 3
    assert class_words(["dept 1", "shop 2"]) == ("dept 1", "shop 2")


def test_names_that_are_almost_the_same_are_found():
    assert alike(["delivery", "refund", "delivery ", "Delivery", "refund"]) == [["delivery", "delivery ", "Delivery"]]


def test_a_corpus_keeps_its_names_and_knows_their_words():
    corpus = Corpus(("a", "b", "c"), np.arange(3), ("playMusic", "LABEL_1", "refund"))
    assert corpus.class_names == ("playMusic", "LABEL_1", "refund")
    assert corpus.class_words == ("play music", None, "refund")
    assert corpus.select_classes(["refund", "LABEL_1"]).class_words == (None, "refund")
    episode = Episode.from_texts(corpus.class_names, named=False)
    assert episode.class_words == (None, None, None)


@pytest.mark.parametrize("verbalizer", ["regression", "mix", "names"])
def test_a_class_whose_name_says_nothing_is_known_by_its_texts(tiny, verbalizer):
    """Another number does not change its class embedding, and the other classes are those of a task with names."""
    warp, init = tiny_model(tiny, verbalizer=verbalizer)
    texts, labels = ["rain today", "cold rain", "play music"], [0, 0, 1]
    names = (("rain", "LABEL_1"), ("rain", "id-77"), ("rain", "music"))
    one, other, named = (
        start(warp, init, TaskBatch.encode([Episode.from_texts(own, texts, labels)], warp.encoder))[0].class_embeddings
        for own in names
    )
    assert torch.equal(one, other) and not torch.allclose(one[0, 1], named[0, 1])
    if verbalizer != "regression":
        assert_close(one[0, 0], named[0, 0])


def test_tasks_with_and_without_names_are_adapted_together(tiny):
    warp, init = tiny_model(tiny, verbalizer="regression")
    episodes = tiny_episodes(2)
    mixed = [episodes[0], *without_names(episodes[1:])]
    together = start(warp, init, TaskBatch.encode(mixed, warp.encoder))[0].class_embeddings
    for task, episode in enumerate(mixed):
        alone = start(warp, init, TaskBatch.encode([episode], warp.encoder))[0].class_embeddings
        assert_close(together[task], alone[0], rtol=0, atol=1e-9)


def test_names_that_the_tokenizer_cannot_tell_apart_are_named_in_a_warning(tiny, caplog):
    warp, _ = tiny_model(tiny)
    warp.encoder.require_known(["rain", "music", None, "rain "])
    assert "does not distinguish these class names: 'rain', 'rain '" in caplog.text


def test_a_corpus_warns_of_names_that_are_almost_the_same(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("text,label\none,delivery\ntwo,Delivery\nthree,refund\n")
    Corpus.load(tmp_path / "a.csv")
    assert "almost the same name: 'Delivery', 'delivery'" in caplog.text
    assert Corpus.load(tmp_path / "a.csv", ignore_names=True).class_words == (None, None, None)
    assert tiny_corpus().named
