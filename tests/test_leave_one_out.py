"""Leave-one-out losses and the steps on them."""

import numpy as np
import pytest
import torch
from running import refused
from tiny import ADAPTER_SIZES, assert_second_order_is_exact, query_logits, tiny_episodes, tiny_model, without_names
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.testing import assert_close

from episodes import Episode
from metawarp import Init
from metawarp.adaptation import leave_one_out_steps
from metawarp.adaptation.leave_one_out import LOSSES, RIDGE_PENALTY, SupportSets
from metawarp.adaptation.leave_one_out_steps import CLASSES_PER_STEP, leave_one_out_losses, read_by_step
from metawarp.adaptation.memory import FIRST_ORDER_VECTORS
from metawarp.adaptation.trajectory import trajectory
from metawarp.adapters.adapter import split
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.engine import ENGINES
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS, inner_loop as inner_loop_of
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch

SHOTS = (4, 1, 3)
"""Texts of each class: the second class has nothing but its name when its text is left out."""


def inner_loop(loss, steps=2):
    return InnerLoop(steps, ("adapter",), loss)


def tasks_and_features(warp, names=True):
    """Two tasks, of three classes with different numbers of texts and of two classes, and random features."""
    episodes = [tiny_episodes(1, n_way=3, k_shot=4)[0], tiny_episodes(1, n_way=2, k_shot=3, seed=5)[0]]
    tasks = TaskBatch.encode(episodes if names else without_names(episodes), warp.encoder)
    kept = torch.tensor([n < SHOTS[c] for c in range(3) for n in range(4)] + [True] * 6)
    order = torch.argsort(tasks.support.task * 10 + tasks.support.label, stable=True)
    rows = order[kept]
    texts = tasks.support
    assert texts.batch is not None
    chosen = type(texts)(texts.batch.select(rows), texts.task[rows], texts.label[rows])
    tasks = tasks.with_support(chosen)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(len(chosen) + 5, 8, generator=generator, dtype=torch.float64)
    features = torch.nn.functional.normalize(draw, dim=1)
    return tasks, features[:-5], features[-5:] if names else None


def examples_without(i, task, tasks, support, names):
    """Features and labels of all texts of a task but text i, and of its names."""
    texts = tasks.support
    rows = [j for j in range(len(texts)) if texts.task[j] == task and j != i]
    features, labels = [support[j] for j in rows], [int(texts.label[j]) for j in rows]
    if names is not None:
        own = tasks.names.task == task
        features += list(names[own])
        labels += tasks.names.label[own].tolist()
    return torch.stack(features), torch.tensor(labels)


def by_class_means(features, labels, text, n_way):
    means = [features[labels == c].sum(0) for c in range(n_way)]
    return torch.stack([cosine_similarity(text, mean, dim=0) for mean in means])


def by_ridge(features, labels, text, n_way):
    targets = torch.eye(n_way, dtype=torch.float64)[labels] - 1 / n_way
    penalty = RIDGE_PENALTY * torch.eye(features.shape[1], dtype=torch.float64)
    return text @ torch.linalg.solve(features.T @ features + penalty, features.T @ targets)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("loss", "naive"), [("class_means", by_class_means), ("ridge", by_ridge)])
def test_a_loss_is_that_of_the_naive_loop(tiny, loss, naive, named):
    warp, _ = tiny_model(tiny)
    tasks, support, names = tasks_and_features(warp, named)
    sets = SupportSets.of(tasks, names, support)
    found = sets.loss(LOSSES[loss].logits(sets, torch.tensor([3.0, 5.0], dtype=torch.float64)))
    for task, (n_way, scale) in enumerate([(3, 3.0), (2, 5.0)]):
        losses: dict[int, list] = {}
        for i in torch.where(tasks.support.task == task)[0].tolist():
            label = int(tasks.support.label[i])
            features, labels = examples_without(i, task, tasks, support, names)
            if label in labels:
                logits = scale * naive(features, labels, support[i], n_way)
                losses.setdefault(label, []).append(cross_entropy(logits[None], torch.tensor([label])))
        expected = torch.stack([torch.stack(of_class).mean() for of_class in losses.values()]).mean()
        assert_close(found[task], expected, rtol=0, atol=1e-10)


def test_one_half_of_the_texts_is_predicted_from_the_other(tiny):
    warp, _ = tiny_model(tiny)
    tasks, support, names = tasks_and_features(warp)
    assert names is not None
    sets = SupportSets.of(tasks, names, support)
    logits = LOSSES["halves"].logits(sets, torch.ones(2, dtype=torch.float64))
    texts = tasks.support
    places = list(zip(texts.task.tolist(), texts.label.tolist(), strict=True))
    number = [places[:i].count(place) for i, place in enumerate(places)]
    for i in range(len(texts)):
        task = int(texts.task[i])
        n_way = int(tasks.n_way[task])
        others = [j for j in range(len(texts)) if texts.task[j] == task and number[j] % 2 != number[i] % 2]
        own = tasks.names.task == task
        features = torch.cat([support[others], names[own]])
        labels = torch.cat([texts.label[others], tasks.names.label[own]])
        expected = by_ridge(features, labels, support[i], n_way)
        assert_close(logits[task, int(texts.index_in_task[i]), :n_way], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_text_that_nothing_else_stands_for_is_not_counted(tiny, loss):
    warp, init = tiny_model(tiny, inner_loop(loss))
    tasks = TaskBatch.encode(without_names(tiny_episodes(1, k_shot=1)), warp.encoder)
    support = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    sets = SupportSets.of(tasks, None, support)
    assert sets.loss(LOSSES[loss].logits(sets, torch.ones(1))).tolist() == [0.0]
    states = trajectory(warp, init, tasks, inner_loop(loss)).states
    assert torch.equal(states[0].adapter, states[-1].adapter)


@pytest.mark.parametrize("adapter", ADAPTER_SIZES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_lowers_the_loss_and_has_the_length_of_its_rate(tiny, loss, adapter):
    inner = inner_loop(loss, 1)
    settings = {"adapter": adapter, "adapter_size": ADAPTER_SIZES[adapter], "rates": InnerLearningRates(1e-3)}
    warp, init = tiny_model(tiny, inner, **settings)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=3), warp.encoder)
    before, after = trajectory(warp, init, tasks, inner).states
    losses = [leave_one_out_losses(warp, init, state, tasks, inner) for state in (before, after)]
    assert (losses[1] < losses[0]).all()
    changes = split(warp.adapter, (after.adapter - before.adapter).detach())
    sizes = torch.stack([change.flatten(1).square().mean(1).sqrt() for change in changes.values()])
    assert (sizes <= 1e-3 + 1e-12).all() and (sizes.max(0).values > 9e-4).all()


@pytest.mark.parametrize("named", [True, False])
def test_texts_whose_graph_is_large_are_read_in_parts(tiny, monkeypatch, named):
    inner = inner_loop("class_means", 3)
    warp, init = tiny_model(tiny, inner, adapter="lora", adapter_size=2)
    episodes = tiny_episodes(2, k_shot=3)
    tasks = TaskBatch.encode(episodes if named else without_names(episodes), warp.encoder)
    whole = trajectory(warp, init, tasks, inner).states[-1].adapter
    read = []
    monkeypatch.setattr(leave_one_out_steps, "MAX_GRAPH_BYTES", FIRST_ORDER_VECTORS * warp.bytes_per_token * 30)
    monkeypatch.setattr(type(tiny), "run_layers", counted(type(tiny).run_layers, read))
    assert_close(trajectory(warp, init, tasks, inner).states[-1].adapter, whole, rtol=0, atol=1e-12)
    assert max(len(entering) * entering.shape[1] for entering, learned in read if learned) <= 30
    assert sum(learned for _, learned in read) >= 3 * 4


def counted(function, calls):
    """The same function, which adds its input states, and whether a graph is built, to `calls`."""

    def run(self, entering, *arguments, **settings):
        calls.append((entering, torch.is_grad_enabled()))
        return function(self, entering, *arguments, **settings)

    return run


@pytest.mark.parametrize("adapter", ADAPTER_SIZES)
@pytest.mark.parametrize("loss", LOSSES)
def test_second_order_gradients_are_exact(tiny, loss, adapter, exact):
    inner = inner_loop(loss)
    settings = {"adapter": adapter, "adapter_size": ADAPTER_SIZES[adapter], "rates": InnerLearningRates(0.01)}
    warp, init = tiny_model(tiny, inner, learn=True, **settings)
    names = ["adapter", "log_adapter_lr", "adapter_lr_by_shots", "log_loss_scale", "read_out_logits"]
    assert_second_order_is_exact(warp, init, inner, names, n_tasks=2, modes=("unroll", "recompute"))


def test_the_fit_of_class_embeddings_is_part_of_the_meta_gradient(tiny, exact):
    inner = inner_loop("class_means")
    warp, init = tiny_model(tiny, inner, learn=True, verbalizer="regression", rates=InnerLearningRates(0.01))
    names = ["adapter", "adapter_lr_by_ways", "log_strength", "log_name_count", "log_loss_scale"]
    assert_second_order_is_exact(warp, init, inner, names, n_tasks=2, modes=("unroll", "recompute"))


def test_ten_recomputed_steps_are_those_of_unrolled_maml(tiny, exact):
    inner = inner_loop("class_means", 10)
    warp, init = tiny_model(tiny, inner, learn=True, adapter="lora", adapter_size=2, rates=InnerLearningRates(0.005))
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    maml = METHODS["maml"].meta_gradient
    unrolled, recomputed = (
        tensors_of(maml(init, MetaBatch(warp, tasks, inner, last_step(10), mode)).gradients)
        for mode in ("unroll", "recompute")
    )
    assert unrolled["adapter"].any()
    assert_close(recomputed, unrolled, rtol=1e-7, atol=1e-12)


def test_classes_take_turns_in_tasks_of_many_classes(tiny):
    warp, _ = tiny_model(tiny)
    episode = tiny_episodes(1, n_way=6, k_shot=2)[0]
    tasks = TaskBatch.encode([episode], warp.encoder)
    part = tasks.of_classes([torch.tensor([4, 1])])
    assert part.n_way.tolist() == [2] and part.shots.tolist() == [[2, 2]]
    assert sorted(part.support.label.tolist()) == [0, 0, 1, 1] and sorted(part.names.label.tolist()) == [0, 1]
    texts = [episode.support_texts[i] for i in np.where(np.isin(episode.support_labels, [4, 1]))[0]]
    assert part.support.batch is not None and part.support.batch.keys() == warp.encoder(texts).keys()
    assert read_by_step(tasks, 0) is tasks and CLASSES_PER_STEP == 16


def test_classes_beyond_the_limit_take_turns_and_smaller_tasks_are_read_whole(tiny, monkeypatch):
    monkeypatch.setattr(leave_one_out_steps, "CLASSES_PER_STEP", 4)
    warp, _ = tiny_model(tiny)
    large, small = tiny_episodes(1, n_way=6, k_shot=2)[0], tiny_episodes(1, n_way=3, k_shot=2, seed=4)[0]
    tasks = TaskBatch.encode([large, small], warp.encoder)
    turns = [read_by_step(tasks, number) for number in (0, 1)]
    assert [turn.n_way.tolist() for turn in turns] == [[3, 3], [3, 3]]
    read = [text for turn in turns for text in keys_of(turn.task(0))]
    assert sorted(read) == sorted(warp.encoder(large.support_texts).keys())
    for turn in turns:
        assert keys_of(turn.task(1)) == warp.encoder(small.support_texts).keys()
        assert turn.task(1).support.label.tolist() == small.support_labels.tolist()


def keys_of(tasks):
    """The keys of the support texts."""
    return tasks.support.batch.keys()


def test_a_step_reads_some_texts_of_each_class_of_a_large_task(tiny, monkeypatch):
    monkeypatch.setattr(leave_one_out_steps, "TEXTS_PER_STEP", 8)
    warp, _ = tiny_model(tiny)
    large, small = tiny_episodes(1, n_way=3, k_shot=5)[0], tiny_episodes(1, n_way=3, k_shot=2, seed=4)[0]
    tasks = TaskBatch.encode([large, small], warp.encoder)
    parts = [read_by_step(tasks, number) for number in range(12)]
    assert all(part.shots.tolist() == [[2, 2, 2], [2, 2, 2]] for part in parts)
    alone = [read_by_step(TaskBatch.encode([large], warp.encoder), number) for number in range(12)]
    read = []
    for part, own in zip(parts, alone, strict=True):
        together, by_itself = part.task(0).support.batch, own.support.batch
        assert together is not None and by_itself is not None and together.keys() == by_itself.keys()
        read += together.keys()
    assert len(set(read)) > 6 and set(read) <= set(warp.encoder(large.support_texts).keys())


def test_a_step_on_classes_without_texts_changes_nothing(tiny, monkeypatch):
    inner = inner_loop("class_means", 1)
    warp, init = tiny_model(tiny, inner)
    names = tiny_episodes(1, n_way=6)[0].class_names
    episode = Episode.from_texts(names, ["play music", "play", "rain", "cold rain"], [0, 0, 1, 1])
    tasks = TaskBatch.encode([episode], warp.encoder)
    monkeypatch.setattr(leave_one_out_steps, "read_by_step", lambda tasks, _: tasks.of_classes([torch.tensor([3, 5])]))
    before, after = trajectory(warp, init, tasks, inner).states
    assert torch.equal(before.adapter, after.adapter)


@pytest.mark.parametrize("method", ["maml", "fomaml", "reptile"])
def test_tasks_side_by_side_are_those_alone_and_methods_give_finite_gradients(tiny, method):
    inner = inner_loop("class_means")
    warp, init = tiny_model(tiny, inner, learn=True, adapter="lora", adapter_size=2)
    episodes = tiny_episodes(3)
    together = query_logits(warp, init, episodes, inner)
    for episode, found in zip(episodes, together, strict=True):
        assert_close(query_logits(warp, init, [episode], inner)[0], found, rtol=0, atol=1e-9)
    tasks = TaskBatch.encode(episodes, warp.encoder)
    found = METHODS[method].meta_gradient(init, MetaBatch(warp, tasks, inner, last_step(2)))
    assert torch.isfinite(found.gradients.adapter).all() and found.gradients.adapter.any()


def test_an_init_of_a_leave_one_out_loop_is_saved_and_loaded(tiny, tmp_path):
    inner = inner_loop("ridge")
    warp, _ = tiny_model(tiny, inner, adapter="lora", adapter_size=2)
    init = Init.start(warp, inner)
    init.save(tmp_path)
    loaded = Init.load(tmp_path)
    assert loaded.inner == inner
    once, again = (query_logits(one.bind(tiny), one.on(tiny), tiny_episodes(1), inner) for one in (init, loaded))
    assert torch.equal(once[0], again[0])


@pytest.mark.parametrize("method", ["anil", "prototypical"])
def test_a_method_that_leaves_the_adapter_as_it_is_refuses_a_leave_one_out_loss(method):
    with refused("inner_loss='ridge'", f"method={method!r}", "maml"):
        inner_loop_of(method, inner_loss="ridge")
    assert inner_loop_of("maml", 4, "ridge") == inner_loop("ridge", 4)


def test_an_inner_loop_that_cannot_leave_one_out_is_refused():
    with refused("leave-one-out", "updates=['adapter', 'class_embeddings']", "loss='halves'"):
        InnerLoop(2, GROUPS, "halves")
    with refused("loss='other'"):
        InnerLoop(2, GROUPS, "other")  # pyright: ignore[reportArgumentType]


def test_learn2learn_refuses_a_leave_one_out_loss():
    with refused("engine='learn2learn'", "inner_loss='ridge'", "engine='metawarp'"):
        ENGINES["learn2learn"].require("maml", inner_loop("ridge"))
