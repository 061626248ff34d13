"""learn2learn computes the meta-gradients of our own engine, on the same episodes."""

import sys
from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_episodes, tiny_model

from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.engine import ENGINES
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import LEARNING_RATES, tensors_of
from metawarp.texts.task_batch import TaskBatch

ORDERS = pytest.mark.parametrize("method", ["maml", "fomaml"])


def both(backbone, inner, method="maml", *, learned=True, weights=None, k_shot=2, **config):
    """The meta-gradients of two tasks of different ways, by each engine."""
    rates = InnerLearningRates(0.3, 0.2) if learned else InnerLearningRates(0.25, 0.25)
    warp, init = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    for name in (LEARNING_RATES[group] for group in inner.moving):
        start = getattr(init, name).detach()
        increase = torch.linspace(0, 0.3, len(start), dtype=start.dtype) if learned else 0
        init = replace(init, **{name: (start + increase).requires_grad_(learned)})
    episodes = [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)]
    tasks = TaskBatch.encode(episodes, warp.encoder)
    batch = MetaBatch(warp, tasks, inner, weights or last_step(inner.inner_steps), "unroll")
    return [ENGINES[name].meta_gradient(METHODS[method], init, batch) for name in ("metawarp", "learn2learn")]


def assert_same(ours, theirs, rtol):
    assert torch.allclose(ours.losses, theirs.losses, rtol=rtol, atol=0)
    assert ours.accuracy == pytest.approx(theirs.accuracy)
    gradients, others = tensors_of(ours.gradients), tensors_of(theirs.gradients)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert (gradient - others[name]).norm() <= rtol * gradient.norm(), name
    assert ours.gradients.adapter.any()


@pytest.mark.parametrize("steps", [1, 3])
@ORDERS
def test_learned_inner_learning_rates_agree(tiny, steps, method):
    assert_same(*both(tiny, InnerLoop(steps, GROUPS), method), 1e-10)


@pytest.mark.parametrize("steps", [1, 3])
@ORDERS
def test_fixed_inner_learning_rates_agree(tiny, steps, method):
    ours, theirs = both(tiny, InnerLoop(steps, GROUPS), method, learned=False)
    assert_same(ours, theirs, 1e-10)
    assert not ours.gradients.log_adapter_lr.any()


@pytest.mark.parametrize("adapter", ["deep_prompt", "prefix", "prompt_pool", "lora", "weights"])
def test_other_adapters_agree(tiny, adapter):
    size = 2 if adapter in ("prompt_pool", "lora") else None
    assert_same(*both(tiny, InnerLoop(2, GROUPS), adapter=adapter, adapter_size=size), 1e-8)


@pytest.mark.parametrize("group", GROUPS)
def test_an_inner_loop_of_one_group_agrees(tiny, group):
    assert_same(*both(tiny, InnerLoop(3, (group,))), 1e-10)


@pytest.mark.parametrize("verbalizer", ["support", "regression"])
def test_other_verbalizers_agree(tiny, verbalizer):
    assert_same(*both(tiny, InnerLoop(2, GROUPS), verbalizer=verbalizer), 1e-10)


def test_the_multi_step_loss_no_steps_and_no_support_agree(tiny):
    assert_same(*both(tiny, InnerLoop(3, GROUPS), weights=multi_step(3, 0.4)), 1e-10)
    assert_same(*both(tiny, NO_STEPS), 1e-10)
    assert_same(*both(tiny, InnerLoop(2, GROUPS), k_shot=0), 1e-10)


@pytest.mark.parametrize("method", ["maml", pytest.param("fomaml", marks=pytest.mark.slow)])
def test_a_real_backbone_agrees_to_single_precision(minilm, method):
    assert_same(*both(minilm, InnerLoop(1, GROUPS), method, k_shot=1, prompt_start="mask"), 1e-5)


def test_without_learn2learn_the_message_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    monkeypatch.delitem(sys.modules, "learn2learn.algorithms", raising=False)
    with refused("learn2learn", "pip install", "learn2learn==0.2.0", error=ImportError):
        ENGINES["learn2learn"].require("maml")
