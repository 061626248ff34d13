"""The two second-order modes give the same gradient: with the whole graph, and recomputed step by step."""

from dataclasses import replace

import pytest
import torch
from tiny import NO_STEPS, tiny_episodes, tiny_model
from torch.testing import assert_close
from trainings import assert_same_meta_gradient

from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch

RATES = InnerLearningRates(0.3, 0.2)
BOTH = InnerLoop(2, GROUPS)


def both_modes(backbone, inner, *, fixed=(), weights=None, k_shot=2, rates=RATES, **config):
    """The gradients of two tasks of different ways by unrolling and by recomputing; `fixed` tensors are not learned."""
    warp, init = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    init = replace(init, **{name: getattr(init, name).detach() for name in fixed})
    episodes = [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)]
    tasks = TaskBatch.encode(episodes, warp.encoder)
    batch = MetaBatch(warp, tasks, inner, weights or last_step(inner.inner_steps))
    maml = METHODS["maml"].meta_gradient
    return maml(init, replace(batch, second_order="unroll")), maml(init, replace(batch, second_order="recompute"))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("verbalizer", ["mix", "support", "names", "regression"])
def test_both_modes_agree_for_every_verbalizer(tiny, steps, verbalizer):
    unrolled, recomputed = both_modes(tiny, InnerLoop(steps, GROUPS), verbalizer=verbalizer)
    assert_same_meta_gradient(unrolled, recomputed)
    assert unrolled.gradients.log_adapter_lr is not None and unrolled.gradients.log_adapter_lr.all()


@pytest.mark.parametrize("read_out", ["mask", "mean", "debiased_mask", "text+mask"])
def test_both_modes_agree_for_every_read_out(tiny_mlm, read_out):
    assert_same_meta_gradient(*both_modes(tiny_mlm, BOTH, read_out=read_out))


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_both_modes_agree_for_the_multi_step_loss(tiny, progress):
    assert_same_meta_gradient(*both_modes(tiny, InnerLoop(3, GROUPS), weights=multi_step(3, progress)))


@pytest.mark.parametrize(
    ("inner", "k_shot"),
    [(InnerLoop(3, ("adapter",)), 2), (InnerLoop(3, ("class_embeddings",)), 2), (NO_STEPS, 2), (BOTH, 0)],
    ids=["the adapter alone", "class embeddings alone", "no steps", "no support"],
)
def test_both_modes_agree_for_every_inner_loop(tiny, inner, k_shot):
    assert_same_meta_gradient(*both_modes(tiny, inner, k_shot=k_shot))


@pytest.mark.slow
def test_both_modes_agree_to_single_precision_on_a_real_backbone(minilm):
    rates = InnerLearningRates()
    assert_same_meta_gradient(*both_modes(minilm, BOTH, k_shot=1, rates=rates, prompt_start="mask"), 1e-5)


@pytest.mark.parametrize("fixed", ["log_adapter_lr", "log_scale", "adapter"])
def test_a_tensor_that_is_not_learned_has_no_gradient(tiny, fixed):
    free = tensors_of(both_modes(tiny, BOTH)[1].gradients)
    expected = {name: torch.zeros_like(free[name]) if name == fixed else free[name] for name in free}
    for found in both_modes(tiny, BOTH, fixed=[fixed]):
        assert_close(tensors_of(found.gradients), expected, rtol=1e-8, atol=1e-12)
