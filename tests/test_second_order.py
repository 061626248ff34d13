"""Exact second order in two ways, which give the same gradient: with the whole graph, and recomputed step by step."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_episodes, tiny_model

from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch

RATES = InnerLearningRates(0.3, 0.2)
BOTH = InnerLoop(2, GROUPS)


def meta_gradients(warp, init, tasks, inner, weights=None):
    """The gradient by unrolling and by recomputing."""
    batch = MetaBatch(warp, tasks, inner, weights or last_step(inner.inner_steps))
    maml = METHODS["maml"].meta_gradient
    return maml(init, replace(batch, second_order="unroll")), maml(init, replace(batch, second_order="recompute"))


def both(backbone, inner, *, weights=None, k_shot=2, rates=RATES, **config):
    warp, init = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    episodes = [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)]
    return meta_gradients(warp, init, TaskBatch.encode(episodes, warp.encoder), inner, weights)


def assert_same(one, other, rtol=1e-10):
    assert torch.allclose(one.losses, other.losses, rtol=rtol, atol=0)
    assert one.accuracy == other.accuracy
    of_one, of_other = tensors_of(one.gradients), tensors_of(other.gradients)
    assert of_one.keys() == of_other.keys()
    for name, gradient in of_one.items():
        assert (gradient - of_other[name]).norm() <= rtol * gradient.norm(), name
        assert gradient.norm() > 0 or not of_other[name].any()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("verbalizer", ["mix", "support", "names", "regression"])
def test_recomputing_gives_the_gradient_of_unrolling(tiny, steps, verbalizer):
    unrolled, recomputed = both(tiny, InnerLoop(steps, GROUPS), verbalizer=verbalizer)
    assert_same(unrolled, recomputed)
    assert unrolled.gradients.adapter.any()
    assert unrolled.gradients.log_adapter_lr is not None and unrolled.gradients.log_adapter_lr.all()


@pytest.mark.parametrize("read_out", ["mask", "mean", "debiased_mask", "text+mask"])
def test_so_it_is_with_other_read_outs(tiny_mlm, read_out):
    assert_same(*both(tiny_mlm, BOTH, read_out=read_out))


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_so_it_is_with_the_multi_step_loss(tiny, progress):
    assert_same(*both(tiny, InnerLoop(3, GROUPS), weights=multi_step(3, progress)))


@pytest.mark.parametrize("fixed", ["log_adapter_lr", "log_scale", "adapter"])
def test_what_is_not_learned_gets_no_gradient(tiny, fixed):
    warp, init = tiny_model(tiny, BOTH, learn=True, rates=RATES)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    free = tensors_of(meta_gradients(warp, init, tasks, BOTH)[1].gradients)
    for found in meta_gradients(warp, replace(init, **{fixed: getattr(init, fixed).detach()}), tasks, BOTH):
        gradients = tensors_of(found.gradients)
        assert not gradients.pop(fixed).any()
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, free[name], rtol=1e-8, atol=1e-12), name


@pytest.mark.parametrize("group", GROUPS)
def test_so_it_is_where_one_group_is_updated(tiny, group):
    assert_same(*both(tiny, InnerLoop(3, (group,))))


def test_so_it_is_without_steps_and_without_support(tiny):
    assert_same(*both(tiny, InnerLoop()))
    assert_same(*both(tiny, BOTH, k_shot=0))


@pytest.mark.slow
def test_on_the_real_backbone_they_agree_to_single_precision(minilm):
    assert_same(*both(minilm, BOTH, k_shot=1, rates=InnerLearningRates(), prompt_start="mask"), 1e-5)
