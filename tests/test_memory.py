"""What unrolling would take, and which way is taken."""

import pytest
import torch
from running import refused
from tiny import tiny_episodes, tiny_model

from episodes import InputError
from metawarp import TrainingConfig
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.memory import free_bytes, unrolled_bytes
from metawarp.meta_learning.second_order import exact_mode

FAR_TOO_MANY = 10**9
"""Inner steps whose graph fits into no machine's memory."""


def of(tiny, n_tasks=2, **episodes):
    warp, _ = tiny_model(tiny)
    return warp, TaskBatch.encode(tiny_episodes(n_tasks, **episodes), warp.encoder)


def test_the_estimate_is_linear_in_steps_and_grows_with_the_tasks(tiny):
    warp, tasks = of(tiny)
    one = unrolled_bytes(warp, tasks, InnerLoop(1, GROUPS))
    assert unrolled_bytes(warp, tasks, InnerLoop(7, GROUPS)) == pytest.approx(7 * one, rel=1e-6)
    assert unrolled_bytes(*of(tiny, n_tasks=4), InnerLoop(1, GROUPS)) > 1.5 * one > 0


def test_where_no_step_goes_through_the_backbone_there_is_nothing_to_hold(tiny):
    assert unrolled_bytes(*of(tiny), InnerLoop(3, ("rows",))) == 0
    assert unrolled_bytes(*of(tiny), InnerLoop(0, ())) == 0
    assert unrolled_bytes(*of(tiny, k_shot=0), InnerLoop(3, GROUPS)) == 0


def test_what_is_free_is_less_than_a_machine_has():
    assert 2**24 < free_bytes(torch.device("cpu")) < 2**46


def test_auto_unrolls_what_fits_and_says_what_it_takes(tiny, caplog):
    warp, tasks = of(tiny)
    with caplog.at_level("INFO"):
        assert exact_mode("auto", warp, tasks, InnerLoop(2, GROUPS)) == "unroll"
        assert exact_mode("auto", warp, tasks, InnerLoop(FAR_TOO_MANY, GROUPS)) == "recompute"
    assert "second order by unroll: the graph of 2 inner steps takes about 0.0 GB of" in caplog.text
    assert "second order by recompute: the graph of 1000000000 inner steps takes about" in caplog.text


def test_what_was_asked_for_is_taken_where_it_fits(tiny):
    warp, tasks = of(tiny)
    assert exact_mode("recompute", warp, tasks, InnerLoop(1, GROUPS)) == "recompute"
    assert exact_mode("unroll", warp, tasks, InnerLoop(1, GROUPS)) == "unroll"
    with pytest.raises(
        InputError,
        match=r"^unrolling does not fit: the graph of 1000000000 inner steps takes about \d+\.\d GB of \d+\.\d GB "
        r"free; use --training\.second_order recompute, or fewer steps\.$",
    ):
        exact_mode("unroll", warp, tasks, InnerLoop(FAR_TOO_MANY, GROUPS))


def test_an_unknown_way_is_refused():
    with refused("second_order is 'both'; it can be auto, unroll, recompute."):
        TrainingConfig(second_order="both")
