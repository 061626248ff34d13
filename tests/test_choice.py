"""Each task chooses, by its own held-out texts, how it is adapted."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_episodes, tiny_model, without_names
from torch.testing import assert_close

from metawarp.adaptation import adapt as adapt_module, choice as choice_module, own_temperature as temperature_module
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.choice import EXTENTS, NAME_FACTORS, Choice, choose, with_temperatures
from metawarp.adaptation.cross_fit import CrossFit, held_out_logits
from metawarp.adaptation.start import logits_of, read_texts, start
from metawarp.adaptation.temperature import Temperature
from metawarp.adaptation.trajectory import trajectory
from metawarp.config import InnerLearningRates, InnerLoop
from metawarp.texts.task_batch import TaskBatch

TEMPERATURE = Temperature(base=0.5)
INNER = InnerLoop(2, ("adapter",), "class_means")
LORA = {"adapter": "lora", "adapter_size": 2, "verbalizer": "regression", "rates": InnerLearningRates(0.01)}


def lora_model(backbone):
    return tiny_model(backbone, INNER, **LORA)


def chosen(extents, factors, temperatures):
    """A choice of the given numbers for each task."""
    zeros = torch.zeros(len(extents))
    return Choice(torch.tensor(extents), torch.tensor(factors), torch.tensor(temperatures), zeros, zeros.long() + 1)


def keys(texts):
    """The keys of encoded texts, sorted."""
    assert texts.batch is not None
    return sorted(texts.batch.keys())


# Halves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k_shot", [1, 2, 5])
def test_every_text_is_held_out_once_from_a_half_with_the_other_texts(tiny, k_shot):
    warp, _ = lora_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(2, n_way=3, k_shot=k_shot), warp.encoder)
    halves_of_tasks = CrossFit.halves(tasks)
    crossed = halves_of_tasks.tasks
    assert keys(halves_of_tasks.texts) == sorted(2 * keys(tasks.support))
    assert len(crossed) == 4 and crossed.n_way.tolist() == [3] * 4
    assert len(crossed.query) == len(crossed.support) == len(tasks.support)
    for task in range(2):
        own = keys(tasks.task(task).support)
        halves = [crossed.task(task), crossed.task(task + 2)]
        for half, other in (halves, halves[::-1]):
            assert sorted(keys(half.support) + keys(half.query)) == own
            assert keys(half.query) == keys(other.support)
            assert keys(half.names) == keys(tasks.task(task).names)
        per_class = torch.stack([half.shots[0] for half in halves])
        assert (per_class.sum(0) == k_shot).all() and (per_class[0] - per_class[1]).abs().max() <= 1
    assert_close(crossed.shots.sum(1), torch.bincount(crossed.support.task).float())


@pytest.mark.parametrize("extent", [0.0, 1.0])
def test_held_out_logits_are_those_of_the_adapted_halves(tiny, extent):
    warp, init = lora_model(tiny)
    halves = CrossFit.halves(TaskBatch.encode(tiny_episodes(2, k_shot=4), warp.encoder))
    path, crossed = trajectory(warp, init, halves.tasks, INNER), halves.tasks
    extents, factors = torch.tensor([0.5, extent, extent]), torch.tensor([1.0, 1.0, 4.0])
    logits = held_out_logits(warp, init, path, halves, extents, factors)[1:]
    moved = replace(init, log_name_count=init.log_name_count + np.log(4))
    for row, own in zip(logits, (init, moved), strict=True):
        for task in range(len(crossed)):
            alone = crossed.task(task)
            state = path.states[-1 if extent else 0].adapter[task]
            parameters, _ = start(warp, replace(own, adapter=state), alone)
            expected = logits_of(warp, parameters, read_texts(warp, parameters, alone.query), alone.query, alone)
            assert_close(row[crossed.query.task == task], expected, rtol=0, atol=1e-6)


def test_mixed_features_are_between_those_of_the_ends(tiny):
    warp, init = lora_model(tiny)
    halves = CrossFit.halves(TaskBatch.encode(tiny_episodes(1, k_shot=4), warp.encoder))
    path = trajectory(warp, init, halves.tasks, INNER)
    extents = torch.tensor([0.0, 0.01, 0.99, 1.0])
    first, near_first, near_last, last = held_out_logits(warp, init, path, halves, extents, torch.ones(4))
    gap = (last - first).abs().max()
    assert gap > 0
    assert (near_first - first).abs().max() < gap / 4 and (near_last - last).abs().max() < gap / 4


# The rule -------------------------------------------------------------------------------------------------------


def choice_from(losses, n_texts, monkeypatch, tiny):
    """What tasks choose whose alternatives have these sums of losses (J, T)."""
    losses = torch.tensor(losses)
    monkeypatch.setattr(choice_module, "at_best_temperatures", lambda *_: (torch.ones_like(losses), losses))
    warp, init = lora_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(losses.shape[1], k_shot=n_texts), warp.encoder)
    return choose(warp, init, tasks, INNER, TEMPERATURE)


def test_equal_losses_choose_the_mean_and_large_differences_the_best(tiny, monkeypatch):
    alternatives = [(extent, factor) for extent in EXTENTS for factor in NAME_FACTORS]
    sums = [[5.0, 5.0 if alternative == (1.5, 4.0) else 500.0] for alternative in alternatives]
    choice = choice_from(sums, 2, monkeypatch, tiny)
    assert_close(choice.extents, torch.tensor([np.mean(EXTENTS), 1.5]).to(choice.extents))
    assert_close(choice.name_factors, torch.tensor([1.0, 4.0]).to(choice.extents))
    assert choice.gains[0] == 0 and choice.gains[1] > 0


def test_a_task_chooses_a_multiple_of_the_temperature_of_the_init(tiny, monkeypatch):
    """An init that is twice as uncertain leads to half the multiple, if nothing else is known of it."""
    monkeypatch.setattr(temperature_module, "TEMPERATURE_SPREAD", 1e6)
    monkeypatch.setattr(temperature_module, "TEMPERATURES", [2**power for power in range(-20, 20)])
    monkeypatch.setattr(temperature_module, "OCTAVE", 1)
    warp, init = lora_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=5), warp.encoder)
    one, two = (choose(warp, init, tasks, INNER, Temperature(math.log(factor))) for factor in (1, 2))
    assert_close(one.temperatures, 2 * two.temperatures, rtol=1e-6, atol=0)
    assert_close(one.extents, two.extents)


def test_no_step_is_taken_if_no_text_can_be_left_out(tiny, caplog):
    """With one text per class and no names."""
    caplog.set_level("INFO")
    warp, init = lora_model(tiny)
    tasks = TaskBatch.encode(without_names(tiny_episodes(2, k_shot=1)), warp.encoder)
    adapted = adapt(warp, init, tasks, INNER, chooses=True)
    assert len(adapted.losses) == 0 and caplog.text.count("no text can be left out") == 1
    assert adapted.choice.name_factors.tolist() == [1, 1]
    assert_close(adapted.parameters.adapter, init.adapter.expand_as(adapted.parameters.adapter))


def test_tasks_choose_together_as_if_alone(tiny):
    warp, init = lora_model(tiny)
    episodes = tiny_episodes(3, k_shot=4)
    together = choose(warp, init, TaskBatch.encode(episodes, warp.encoder), INNER, TEMPERATURE)
    alone = [choose(warp, init, TaskBatch.encode([episode], warp.encoder), INNER, TEMPERATURE) for episode in episodes]
    for name in ("extents", "name_factors", "temperatures", "gains"):
        assert_close(getattr(together, name), torch.cat([getattr(one, name) for one in alone]), rtol=0, atol=1e-6)
    assert together.n_texts.tolist() == [len(episode.support_texts) for episode in episodes]


def test_the_halves_have_no_part_in_the_temperature_of_a_task_that_took_no_step(tiny):
    warp, _ = lora_model(tiny)
    tasks, own = TaskBatch.encode(tiny_episodes(2, k_shot=1), warp.encoder), torch.tensor([2.0, 3.0])
    choice = chosen([0.0, 1.0], [1.0, 1.0], [8.0, 27.0])
    assert_close(with_temperatures(choice, own, tasks).temperatures, torch.tensor([4.0, 9.0]))
    untried = replace(choice, n_texts=torch.zeros(2, dtype=torch.long))
    assert_close(with_temperatures(untried, own, tasks).temperatures, own)


# Adapted tasks --------------------------------------------------------------------------------------------------


def test_each_task_goes_as_far_as_it_chose(tiny, monkeypatch):
    warp, init = lora_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(3, k_shot=3), warp.encoder)
    monkeypatch.setattr(adapt_module, "choose", lambda *_: chosen([0.0, 1.0, 0.5], [4.0, 1.0, 1.0], [16.0, 1.0, 1.0]))
    monkeypatch.setattr(adapt_module, "own_temperatures", lambda *_: torch.tensor([2.0, 1.0, 1.0]))
    adapted = adapt(warp, init, tasks, INNER, chooses=True)
    assert adapted.losses.shape == (2, 3)
    stays = adapt(warp, warp.verbalizer.weighing_names(init, 4.0), tasks.task(0), INNER.with_steps(0))
    moves = adapt(warp, init, tasks.task(1), INNER)
    for task, alone in enumerate((stays, moves)):
        for name in ("adapter", "class_embeddings"):
            own = getattr(adapted.parameters, name)[task]
            assert_close(own, getattr(alone.parameters, name)[0], rtol=0, atol=1e-7)
    scale = float(init.log_scale.exp())
    first = 16 ** (1 / 4) * 2 ** (3 / 4)  # with three texts per class, that of the halves has a quarter of the weight
    assert_close(adapted.parameters.scale, torch.tensor([scale / first, scale, scale]).to(init.log_scale))
    end = adapt(warp, init, tasks.task(2), INNER).parameters.adapter[0]
    assert_close(adapted.parameters.adapter[2], (init.adapter + end) / 2, rtol=0, atol=1e-7)


def test_a_task_whose_loss_is_not_finite_keeps_its_start(tiny, monkeypatch, caplog):
    warp, init = lora_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=3), warp.encoder)
    whole = trajectory(warp, init, tasks, INNER)
    whole.losses[1][0] = float("nan")
    whole.states[-1].adapter.data[0] = float("nan")
    monkeypatch.setattr(adapt_module, "trajectory", lambda *_, **__: whole)
    adapted = adapt(warp, init, tasks, INNER)
    assert adapted.choice.extents.tolist() == [0, 1]
    assert torch.equal(adapted.parameters.adapter[0], init.adapter)
    assert torch.equal(adapted.parameters.adapter[1], whole.states[-1].adapter[1])
    assert "1 of 2 tasks keep their start" in caplog.text


def test_a_task_whose_held_out_losses_are_not_finite_keeps_its_start(tiny, monkeypatch, caplog):
    warp, init = lora_model(tiny)
    tasks, nan = TaskBatch.encode(tiny_episodes(2, k_shot=3), warp.encoder), float("nan")
    monkeypatch.setattr(adapt_module, "choose", lambda *_: chosen([nan, 0.5], [nan, 1.0], [nan, 1.0]))
    monkeypatch.setattr(adapt_module, "own_temperatures", lambda *_: torch.ones(2))
    adapted = adapt(warp, init, tasks, INNER, chooses=True).parameters
    unadapted = adapt(warp, init, tasks, INNER.with_steps(0)).parameters
    assert_close(adapted.class_embeddings[0], unadapted.class_embeddings[0], rtol=0, atol=1e-7)
    assert_close(adapted.scale[0], unadapted.scale[0])
    assert torch.equal(adapted.adapter[0], init.adapter)
    assert not torch.equal(adapted.adapter[1], init.adapter)
    assert "1 of 2 tasks keep their start" in caplog.text
