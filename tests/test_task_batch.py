"""Encoded episodes: every text keeps its task and its label, and classes that a task lacks are marked."""

import torch
from tiny import tiny_corpus, tiny_episodes, tiny_model

from episodes import Episode, EpisodeSampler
from metawarp.texts.task_batch import TaskBatch


def text_of(encoder, batch, row):
    """The words of a text, without those of the template."""
    specials = encoder.backbone.tokenizer.all_special_ids
    ids = [int(i) for i in batch.input_ids[row][batch.text_mask[row]] if int(i) not in specials]
    return encoder.backbone.tokenizer.decode(ids)


def test_every_text_keeps_its_task_and_its_label(tiny):
    warp, _ = tiny_model(tiny)
    corpus = tiny_corpus()
    sampler = EpisodeSampler(corpus, (2, 4), (1, 3), 2, seed=1, balanced=False)
    episodes = [sampler[i] for i in range(4)]
    tasks = TaskBatch.encode(episodes, warp.encoder)
    assert len(tasks) == 4
    assert tasks.n_way.tolist() == [episode.n_way for episode in episodes]
    for part, texts, labels in [
        (tasks.names, [e.class_names for e in episodes], [range(e.n_way) for e in episodes]),
        (tasks.support, [e.support_texts for e in episodes], [e.support_labels for e in episodes]),
        (tasks.query, [e.query_texts for e in episodes], [e.query_labels for e in episodes]),
    ]:
        expected = [
            (task, int(label), text) for task in range(4) for text, label in zip(texts[task], labels[task], strict=True)
        ]
        rows = range(len(part))
        found = [(int(part.task[i]), int(part.label[i]), text_of(warp.encoder, part.batch, i)) for i in rows]
        assert found == expected
    for i, episode in enumerate(episodes):
        assert tasks.shots[i, : episode.n_way].tolist() == episode.shots.tolist()
        assert not tasks.shots[i, episode.n_way :].any()
        assert tasks.class_mask[i].tolist() == [c < episode.n_way for c in range(4)]


def test_zero_shot_tasks_have_no_support(tiny):
    warp, _ = tiny_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=0), warp.encoder)
    assert tasks.support.batch is None
    assert len(tasks.support) == 0
    assert not tasks.shots.any()


def test_classes_are_numbered_like_the_corpus_classes_and_others_are_minus_one(tiny):
    warp, _ = tiny_model(tiny)
    episodes = tiny_episodes(3)
    tasks = TaskBatch.encode(episodes, warp.encoder, corpus_classes=episodes[0].corpus.class_names)
    assert tasks.corpus_class.tolist() == [episode.class_indices.tolist() for episode in episodes]
    episodes = [
        Episode.from_texts(["a", "b"], ["the sun"], [0]),
        Episode.from_texts(["c", "a", "d"], ["the rain"], [1]),
    ]
    tasks = TaskBatch.encode(episodes, warp.encoder, corpus_classes=["a", "c"])
    assert tasks.corpus_class.tolist() == [[0, -1, -1], [1, 0, -1]]
    assert torch.equal(TaskBatch.encode(episodes, warp.encoder).corpus_class, torch.full((2, 3), -1))
