"""Two ways to the same gradient: the graph kept, and made again step by step."""

import pytest
import torch
from tiny import tiny_episodes, tiny_model

from metawarp.adaptation.inner_loop import GROUPS, InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.outer_loss import multi_step_weights
from metawarp.meta_learning.second_order import recompute, unroll

RATES = InnerRates(prompt=0.3, rows=0.2)


def both(backbone, inner, *, weights=None, k_shot=2, rates=RATES, **config):
    warp, state = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    tasks = TaskBatch.encode(
        [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)], warp.encoder
    )
    return unroll(warp, state, tasks, inner, weights), recompute(warp, state, tasks, inner, weights)


def assert_same(one, other, rtol):
    assert torch.allclose(one.losses, other.losses, rtol=rtol, atol=0)
    assert one.accuracy == other.accuracy
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        assert (gradient - other.gradients[name]).norm() <= rtol * gradient.norm(), name
        assert gradient.norm() > 0 or not other.gradients[name].any()


@pytest.mark.parametrize("steps", [1, 3, 6])
@pytest.mark.parametrize("rows", ["mix", "support", "names", "regression", "random"])
def test_recomputing_gives_the_gradient_of_unrolling(tiny, steps, rows):
    unrolled, recomputed = both(tiny, InnerLoop(steps, GROUPS), rows=rows)
    assert_same(unrolled, recomputed, 1e-10)
    assert unrolled.gradients["prompt"].any()
    assert unrolled.gradients["log_inner_lr.prompt"].all()


@pytest.mark.parametrize("config", [{"similarity": "dot"}, {"read_out": "mask"}, {"read_out": "mean"}], ids=str)
def test_so_it_is_with_other_models(tiny_mlm, config):
    assert_same(*both(tiny_mlm, InnerLoop(2, GROUPS), **config), 1e-10)


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_so_it_is_with_the_multi_step_loss(tiny, progress):
    assert_same(*both(tiny, InnerLoop(3, GROUPS), weights=multi_step_weights(3, progress)), 1e-10)


@pytest.mark.parametrize("fixed", ["log_inner_lr.prompt", "log_scale", "prompt"])
def test_what_is_not_learned_gets_no_gradient(tiny, fixed):
    inner = InnerLoop(2, GROUPS)
    warp, state = tiny_model(tiny, inner, learn=True, rates=RATES)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    free = recompute(warp, state, tasks, inner)
    state[fixed] = state[fixed].detach()
    for found in (unroll(warp, state, tasks, inner), recompute(warp, state, tasks, inner)):
        assert not found.gradients[fixed].any()
        for name in state.keys() - {fixed}:
            assert torch.allclose(found.gradients[name], free.gradients[name], rtol=1e-8, atol=1e-12), name


@pytest.mark.parametrize("groups", [("prompt",), ("rows",)])
def test_so_it_is_where_one_group_moves(tiny, groups):
    assert_same(*both(tiny, InnerLoop(3, groups)), 1e-10)


def test_so_it_is_without_steps_and_without_support(tiny):
    assert_same(*both(tiny, InnerLoop(0, ())), 1e-10)
    assert_same(*both(tiny, InnerLoop(2, GROUPS), k_shot=0), 1e-10)


def test_on_the_real_backbone_they_agree_to_single_precision(minilm):
    inner = InnerLoop(2, GROUPS)
    unrolled, recomputed = both(minilm, inner, k_shot=1, rates=InnerRates(), prompt_start="mask")
    assert_same(unrolled, recomputed, 1e-5)
