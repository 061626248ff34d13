"""Memory that adaptation and unrolling take, what is refused, and how second order is chosen."""

import pytest
import torch
from running import refused
from tiny import tiny_episodes, tiny_model

from metawarp import MemoryLimitError
from metawarp.adaptation.memory import free_bytes, require_memory, tasks_at_once, unrolled_bytes
from metawarp.adapters.adapter import n_values
from metawarp.config import GROUPS, InnerLoop
from metawarp.meta_learning.second_order import choose_second_order
from metawarp.texts.task_batch import TaskBatch

ONE, TWO = InnerLoop(1, GROUPS), InnerLoop(2, GROUPS)
ENDLESS = InnerLoop(10**9, GROUPS)
"""An inner loop whose graph fits into the memory of no machine."""


def model_and_tasks(tiny, n_tasks=2, **episodes):
    warp, _ = tiny_model(tiny)
    return warp, TaskBatch.encode(tiny_episodes(n_tasks, **episodes), warp.encoder)


def test_the_estimate_is_linear_in_steps_and_grows_with_the_tasks(tiny):
    warp, tasks = model_and_tasks(tiny)
    one = unrolled_bytes(warp, tasks, ONE)
    assert unrolled_bytes(warp, tasks, InnerLoop(7, GROUPS)) == pytest.approx(7 * one, rel=1e-6)
    assert unrolled_bytes(*model_and_tasks(tiny, n_tasks=4), ONE) > 1.5 * one > 0


def test_the_estimate_is_zero_if_no_step_passes_through_the_backbone(tiny):
    assert unrolled_bytes(*model_and_tasks(tiny), InnerLoop(3, ("class_embeddings",))) == 0
    assert unrolled_bytes(*model_and_tasks(tiny), InnerLoop()) == 0
    assert unrolled_bytes(*model_and_tasks(tiny, k_shot=0), TWO) == 0


def test_small_adapters_need_no_estimate_and_too_many_copies_of_large_ones_are_refused(tiny):
    warp, tasks = model_and_tasks(tiny)
    assert require_memory(warp, tasks, TWO) is None
    assert tasks_at_once(warp, TWO, 8) == 8
    weights, _ = tiny_model(tiny, adapter="weights")
    assert tasks_at_once(weights, ENDLESS, 8) == 1
    with refused(f"{n_values(weights.adapter):,}", "adapter='weights'", error=MemoryLimitError):
        require_memory(weights, tasks, ENDLESS)


def test_the_free_memory_is_less_than_any_machine_has():
    assert 2**24 < free_bytes(torch.device("cpu")) < 2**46


def test_auto_unrolls_what_fits_and_logs_the_estimate(tiny, caplog):
    warp, tasks = model_and_tasks(tiny)
    with caplog.at_level("INFO"):
        assert choose_second_order("auto", warp, tasks, TWO) == "unroll"
        assert choose_second_order("auto", warp, tasks, ENDLESS) == "recompute"
    assert "the graph of 2 inner steps needs about 0.0 GB" in caplog.text
    assert f"the graph of {ENDLESS.inner_steps} inner steps needs about" in caplog.text


def test_a_choice_is_kept_if_it_fits_and_refused_if_not(tiny):
    warp, tasks = model_and_tasks(tiny)
    assert choose_second_order("recompute", warp, tasks, ONE) == "recompute"
    assert choose_second_order("unroll", warp, tasks, ONE) == "unroll"
    with refused("second_order='unroll'", ENDLESS.inner_steps, "recompute", "inner_steps", error=MemoryLimitError):
        choose_second_order("unroll", warp, tasks, ENDLESS)
