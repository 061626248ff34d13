"""The engines metawarp and learn2learn compute the same meta-gradients on the same episodes."""

import sys
from dataclasses import replace

import pytest
import torch
from marks import slow
from running import refused
from tiny import ADAPTER_SIZES, NO_STEPS, tiny_episodes, tiny_model
from trainings import assert_same_meta_gradient

from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.engine import ENGINES
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import LEARNING_RATES
from metawarp.texts.task_batch import TaskBatch

BOTH = InnerLoop(2, GROUPS)


def assert_same(
    backbone, inner, method: MethodName = "maml", *, learned=True, weights=None, k_shot=2, rtol=1e-10, **config
):
    """Check that both engines agree on two tasks of different ways; returns the meta-gradient."""
    rates = InnerLearningRates(0.3, 0.2) if learned else InnerLearningRates(0.25, 0.25)
    warp, init = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    for name in (LEARNING_RATES[group] for group in inner.moving):
        start = getattr(init, name).detach()
        increase = torch.linspace(0, 0.3, len(start), dtype=start.dtype) if learned else 0
        init = replace(init, **{name: (start + increase).requires_grad_(learned)})
    episodes = [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)]
    tasks = TaskBatch.encode(episodes, warp.encoder)
    batch = MetaBatch(warp, tasks, inner, weights or last_step(inner.inner_steps), "unroll")
    ours, theirs = (ENGINES[name].meta_gradient(METHODS[method], init, batch) for name in ("metawarp", "learn2learn"))
    assert_same_meta_gradient(ours, theirs, rtol)
    return ours


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("method", ["maml", "fomaml"])
@pytest.mark.parametrize("learned", [True, False])
def test_learned_and_fixed_inner_learning_rates_agree(tiny, steps, method, learned):
    gradients = assert_same(tiny, InnerLoop(steps, GROUPS), method, learned=learned).gradients
    assert gradients.log_adapter_lr is not None
    assert bool(gradients.log_adapter_lr.any()) == learned


@pytest.mark.parametrize(("adapter", "size"), ADAPTER_SIZES.items())
def test_every_adapter_agrees(tiny, adapter, size):
    assert_same(tiny, BOTH, adapter=adapter, adapter_size=size, rtol=1e-8)


@pytest.mark.parametrize("verbalizer", ["support", "regression"])
def test_other_verbalizers_agree(tiny, verbalizer):
    assert_same(tiny, BOTH, verbalizer=verbalizer)


def test_other_inner_loops_agree(tiny):
    for group in GROUPS:
        assert_same(tiny, InnerLoop(3, (group,)))
    assert_same(tiny, InnerLoop(3, GROUPS), weights=multi_step(3, 0.4))
    assert_same(tiny, NO_STEPS)
    assert_same(tiny, BOTH, k_shot=0)


@pytest.mark.parametrize("method", ["maml", slow("fomaml")])
def test_a_real_backbone_agrees_to_single_precision(minilm, method):
    assert_same(minilm, InnerLoop(1, GROUPS), method, k_shot=1, prompt_start="mask", rtol=1e-4)


def test_without_learn2learn_the_message_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    monkeypatch.delitem(sys.modules, "learn2learn.algorithms", raising=False)
    with refused("learn2learn", "pip install", "learn2learn==0.2.0", error=ImportError):
        ENGINES["learn2learn"].require("maml", InnerLoop(1, GROUPS))
