"""What adapting and unrolling would take, what is refused, and which way to second order is taken."""

from pathlib import Path

import pytest
import torch
from running import process, refused
from tiny import tiny_episodes, tiny_model

from episodes import InputError
from metawarp import Init, TrainingConfig, WarpClassifier
from metawarp.adaptation import memory
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.memory import MemoryLimitError, free_bytes, require_room, tasks_at_once, unrolled_bytes
from metawarp.adaptation.tasks import TaskBatch
from metawarp.evaluation.scores import metawarp_predictor
from metawarp.meta_learning.second_order import exact_mode

FAR_TOO_MANY = 10**9
"""Inner steps whose graph fits into no machine's memory."""


MEASURED = """
import os, sys
sys.path.insert(0, os.environ["code_path"])
from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.memory import require_room
from metawarp.adaptation.tasks import TaskBatch
from metawarp.evaluation.cost import peak_megabytes
from metawarp.meta_learning.meta_gradients import METHODS

method = METHODS["fomaml"]
warp = Warp(Backbone.load("minilm"), WarpConfig(form="weights", read_out="mean+mask"))
state = {name: t.requires_grad_() for name, t in Init.start(warp, method.inner).to(warp.backbone).items()}
sampler = EpisodeSampler(Corpus.load("everyday"), 5, 5, 10)
tasks = TaskBatch.encode([sampler[i] for i in range(int(os.environ["n_tasks"]))], warp.encoder)
told = float(require_room(warp, tasks, method.inner).split()[1])
kept = []
print(told, peak_megabytes(lambda: kept.append(method.gradient(warp, state, tasks, method.inner))) / 1000)
"""
"""Prints what is told of a meta-gradient's memory, and what it takes, in GB."""


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


BOTH = InnerLoop(2, GROUPS)


def large(tiny, monkeypatch, free, form="weights"):
    """A model whose tasks have many numbers, on a machine with so many bytes free."""
    warp, _ = tiny_model(tiny, form=form)
    monkeypatch.setattr(memory, "LARGE", 10**6)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    return warp, TaskBatch.encode(tiny_episodes(2), warp.encoder)


def test_what_large_forms_take_is_told(tiny, monkeypatch):
    warp, tasks = of(tiny)
    assert require_room(warp, tasks, BOTH) is None
    warp, tasks = large(tiny, monkeypatch, 10**9)
    assert require_room(warp, tasks, BOTH) == (
        "about 0.0 GB of 1.0 GB free for 2 tasks at a time: 18 copies of the "
        f"{warp.form.size:,} numbers of form 'weights', and the graph of a pass"
    )
    told = require_room(warp, tasks, BOTH, beside=8, second_order=True)
    assert "40 copies" in told
    assert "10 copies" in require_room(warp, tasks, InnerLoop(0, ()), beside=8)


def test_what_does_not_fit_is_refused_wherever_tasks_are_adapted(tiny, monkeypatch):
    warp, _ = large(tiny, monkeypatch, 10**6)
    message = r"^tasks do not fit: it takes about 0\.0 GB of 0\.0 GB free for \d tasks at a time: .*, such as lora:2\.$"
    state = Init.start(warp, BOTH).to(tiny)
    with pytest.raises(MemoryLimitError, match=message):
        list(metawarp_predictor(warp, state, BOTH)(tiny_episodes(2)))
    with pytest.raises(MemoryLimitError, match=message):
        WarpClassifier(Init.start(warp, BOTH), tiny).fit(["play music", "rain today"], ["music", "rain"])


def test_as_many_tasks_are_adapted_at_a_time_as_fit(tiny, monkeypatch):
    assert tasks_at_once(*of(tiny)[:1], BOTH, 8) == 8
    warp, _ = large(tiny, monkeypatch, 10**9)
    a_task = 9 * 8 * warp.form.size
    for free, expected in ((10**9, 8), (2 * 3 * a_task, 3), (a_task, 1)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert tasks_at_once(warp, BOTH, 8) == expected


@pytest.mark.slow
@pytest.mark.parametrize("n_tasks", [1, 4])
def test_what_is_told_is_what_a_step_takes(n_tasks):
    # In a process of its own, whose memory nothing else has used.
    done = process(code=MEASURED, n_tasks=str(n_tasks), code_path=str(Path(__file__).parent))
    told, taken = map(float, done.stdout.split())
    assert told / 1.4 < taken < 1.2 * told, done.stdout + done.stderr


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
