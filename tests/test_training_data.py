"""Training data: episodes of one corpus or of several, with the ways and shots that each corpus allows."""

import json
from dataclasses import replace

import pytest
from commands import refusal, train
from running import refused, write_rows
from tiny import tiny_corpus

from episodes import Corpus, EpisodeSampler
from metawarp import Init
from metawarp.cli import main
from metawarp.training.data import EpisodeSettings, TrainingData, split_files

SETTINGS = EpisodeSettings(2, 1, 4, 0)
WITHIN = EpisodeSettings(2, 1, 4, 0, within_domains=1.0)


def small(name, n_classes=6, n_texts=12, seed=0):
    corpus = tiny_corpus(n_classes, n_texts, seed)
    return Corpus(corpus.texts, corpus.labels, tuple(f"{name} {other}" for other in corpus.class_names), name)


def corpora_of(sampler, number=40):
    return [sampler[i].corpus.name.partition("[")[0] for i in range(number)]


def test_the_episodes_of_one_corpus_are_those_of_its_sampler():
    data = TrainingData.load([small("a")])
    expected = EpisodeSampler(data.splits[0].train, 2, (1, 3), 4, 7)
    found = data.sampler(EpisodeSettings(2, (1, 3), 4, 7))
    assert all(found[i].support_texts == expected[i].support_texts for i in range(5))
    assert split_files(1) == ["splits.json"]


def test_of_several_corpora_each_episode_is_from_one_and_all_are_used():
    data = TrainingData.load([small("a"), small("b", seed=1), small("c", seed=2)])
    for sampler in (data.sampler(SETTINGS), data.validation(SETTINGS)):
        found = corpora_of(sampler)
        assert set(found) == {"a", "b", "c"}
        assert all(name.startswith(corpus) for i, corpus in enumerate(found) for name in sampler[i].class_names)
    assert split_files(3) == ["splits-1.json", "splits-2.json", "splits-3.json"]


def test_a_corpus_is_drawn_in_proportion_to_its_classes():
    data = TrainingData.load([small("a", n_classes=6), small("b", n_classes=8, seed=1)])
    numbers = [split.train.n_classes for split in data.splits]
    found = corpora_of(data.sampler(SETTINGS), 400)
    assert found.count("a") / 400 == pytest.approx(numbers[0] / sum(numbers), abs=0.07)


def desks(n_classes, of):
    """A corpus of so many classes, the first `of` of the domain "desk 0", the next of "desk 1", …"""
    return replace(small("a", n_classes), domains=tuple(f"desk {i // of}" for i in range(n_classes)))


def test_episodes_keep_within_domains_if_these_are_large_enough(caplog):
    corpus = desks(8, of=2)
    names = list(corpus.class_names)
    data = TrainingData.load([corpus], [{"train": names[:4], "validation": names[4:6], "test": names[6:]}])
    for sampler in (data.sampler(WITHIN), data.validation(WITHIN)):
        for episode in (sampler[i] for i in range(20)):
            assert len({episode.corpus.domains[c] for c in episode.class_indices}) == 1
    assert "mix domains" not in caplog.text
    apart = names[:6:2]  # of a desk each
    rest = [name for name in names if name not in apart]
    scattered = TrainingData.load([corpus], [{"train": rest[:3], "validation": apart, "test": rest[3:]}])
    assert scattered.validation(WITHIN)[0].n_way == 2
    assert "validation episodes mix domains: too few domains have 2 validation classes" in caplog.text


def test_the_command_line_reads_domains_and_keeps_within_them(capsys, made, tmp_path):
    corpus = desks(8, of=4)
    rows = zip(corpus.texts, corpus.labels, strict=True)
    lines = [{"text": text, "label": corpus.class_names[c], "desk": corpus.domains[c]} for text, c in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = train(made, tmp_path / "a.jsonl", f"--output={tmp_path}/init", "--within-domains=0.5")
    refusal(capsys, command, "within_domains=0.5")
    main([*command, "--domain-column=desk"])
    assert Init.load(tmp_path / "init").training["within_domains"] == 0.5


def test_a_corpus_uses_no_more_ways_and_shots_than_it_has(caplog):
    data = TrainingData.load([small("a", n_texts=6), small("b", n_classes=8, n_texts=20, seed=1)])
    sampler = data.sampler(EpisodeSettings((2, 4), (0, 10), 4, 0, balanced=False))
    for i in range(40):
        few = sampler[i].corpus.name.startswith("a")
        assert sampler[i].n_way <= (2 if few else 4) and max(sampler[i].shots) <= (2 if few else 10)
    assert max(max(sampler[i].shots) for i in range(40)) > 2
    assert "a[train]: episodes have 2 to 2 ways and 0 to 2 shots" in caplog.text


def test_a_class_held_out_in_one_corpus_and_trained_on_in_another_is_reported(caplog):
    names = list(tiny_corpus().class_names)
    splits = [
        {"train": names[:2], "validation": names[2:4], "test": names[4:]},
        {"train": names[4:], "validation": names[2:4], "test": names[:2]},
    ]
    TrainingData.load([tiny_corpus(name="a"), tiny_corpus(name="b")], splits)
    assert "4 classes are trained on in one corpus and held out in another" in caplog.text


def test_every_corpus_needs_a_split_and_one_needs_domains():
    corpora = [small("a"), small("b", seed=1)]
    with refused("splits has 1", "2 corpora"):
        TrainingData.load(corpora, ["everyday"])
    with refused("within_domains=1.0", "a[train]"):
        TrainingData.load(corpora).sampler(WITHIN)


def test_the_command_line_trains_on_several_corpora(made, tmp_path):
    files = [str(write_rows(tmp_path / f"{name}.jsonl", small(name, seed=i))) for i, name in enumerate("ab")]
    command = train(made, f"[{','.join(files)}]", f"--output={tmp_path}/init")
    main([*command, "--balanced=false", "--k-shot=[0,2]"])
    learned = Init.load(tmp_path / "init").training
    assert learned["corpus"] == " + ".join(files) and learned["balanced"] is False
    splits = [tmp_path / "init" / f"splits-{i}.json" for i in (1, 2)]
    parts = [json.loads(file.read_text()) for file in splits]
    for part in ("train", "validation", "test"):
        assert learned["class_names"][part] == [*parts[0][part], *parts[1][part]]
    main([*command, "--overwrite", f"--splits=[{splits[0]},{splits[1]}]"])
    assert Init.load(tmp_path / "init").training["class_names"] == learned["class_names"]


def test_class_names_of_two_corpora_may_be_the_same():
    once = TrainingData.load([tiny_corpus()]).all_words()
    assert TrainingData.load([tiny_corpus(), tiny_corpus(seed=1)]).all_words() == once


def test_unbalanced_episodes_of_a_fixed_shot_are_refused(capsys, made, tmp_path):
    command = train(made, made / "tiny.jsonl", f"--output={tmp_path}/init", "--balanced=false")
    refusal(capsys, command, "balanced=False", "k_shot=1")


def test_tasks_of_classes_without_names_have_texts(caplog):
    data = TrainingData.load([replace(tiny_corpus(), named=False)])
    sampler = data.sampler(EpisodeSettings(2, (0, 3), 2, seed=0))
    assert min(int(sampler[i].shots.min()) for i in range(30)) == 1
    assert "every task has at least one text per class" in caplog.text
    with refused("need names that carry meaning", "raise k_shot"):
        data.sampler(EpisodeSettings(2, 0, 2, seed=0))
