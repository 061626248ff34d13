"""learn2learn finds what our own engine finds, on the same episodes."""

import sys
from pathlib import Path

import pytest
import torch
from running import refused
from tiny import tiny_episodes, tiny_model

from metawarp.adaptation.adapt import start
from metawarp.adaptation.inner_loop import GROUPS, RATES, InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.backbone import twice_differentiable
from metawarp.meta_learning import learn2learn_engine
from metawarp.meta_learning.outer_loss import multi_step_weights
from metawarp.meta_learning.second_order import unroll


def both(backbone, inner, *, second_order=True, learned=True, weights=None, k_shot=2, **config):
    rates = InnerRates(prompt=0.3, rows=0.2) if learned else InnerRates(prompt=0.25, rows=0.25)
    warp, state = tiny_model(backbone, inner, learn=True, rates=rates, **config)
    for name in [name for name in state if name.startswith(RATES)]:
        steps = torch.linspace(0, 0.3, inner.steps, dtype=state[name].dtype) if learned else 0
        state[name] = (state[name].detach() + steps).requires_grad_(learned)
    tasks = TaskBatch.encode(
        [tiny_episodes(1, n_way=n_way, k_shot=k_shot, seed=n_way)[0] for n_way in (2, 4)], warp.encoder
    )
    engines = (unroll, learn2learn_engine.meta_gradient)
    return [engine(warp, state, tasks, inner, weights, second_order=second_order) for engine in engines]


def assert_same(ours, theirs, rtol):
    assert torch.allclose(ours.losses, theirs.losses, rtol=rtol, atol=0)
    assert ours.accuracy == pytest.approx(theirs.accuracy)
    assert ours.gradients.keys() == theirs.gradients.keys()
    for name, gradient in ours.gradients.items():
        assert (gradient - theirs.gradients[name]).norm() <= rtol * gradient.norm(), name
    assert ours.gradients["prompt"].any()


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
@pytest.mark.parametrize("rows", ["mix", "random"])
def test_meta_sgd_agrees(tiny, steps, second_order, rows):
    assert_same(*both(tiny, InnerLoop(steps, GROUPS), second_order=second_order, rows=rows), 1e-10)


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("second_order", [True, False], ids=["maml", "fomaml"])
def test_maml_with_fixed_rates_agrees(tiny, steps, second_order):
    ours, theirs = both(tiny, InnerLoop(steps, GROUPS), second_order=second_order, learned=False)
    assert_same(ours, theirs, 1e-10)
    assert not ours.gradients["log_inner_lr.prompt"].any()


@pytest.mark.parametrize("form", ["deep", "prefix", "pool:2", "lora:2", "weights"])
def test_so_it_is_with_other_forms_of_prompt(tiny, form):
    assert_same(*both(tiny, InnerLoop(2, GROUPS), form=form), 1e-8)


@pytest.mark.parametrize("groups", [("rows",), ("prompt",)])
def test_so_it_is_where_one_group_moves(tiny, groups):
    assert_same(*both(tiny, InnerLoop(3, groups)), 1e-10)


def test_so_it_is_with_the_multi_step_loss_without_steps_and_without_support(tiny):
    assert_same(*both(tiny, InnerLoop(3, GROUPS), weights=multi_step_weights(3, 0.4)), 1e-10)
    assert_same(*both(tiny, InnerLoop(0, ())), 1e-10)
    assert_same(*both(tiny, InnerLoop(2, GROUPS), k_shot=0), 1e-10)


@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
def test_on_the_real_backbone_they_agree_to_single_precision(minilm, second_order):
    assert_same(*both(minilm, InnerLoop(1, GROUPS), second_order=second_order, k_shot=1, prompt_start="mask"), 1e-5)


def test_without_learn2learn_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    monkeypatch.delitem(sys.modules, "learn2learn.algorithms", raising=False)
    message = f'engine "learn2learn" needs a library that is not installed: {learn2learn_engine.INSTALL}'
    with refused(message, ImportError):
        learn2learn_engine.algorithms()


def test_the_whole_model_that_the_engines_are_measured_beside_reads_every_weight_of_its_clone(tiny, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    from engine_cases import WholeModel

    warp, state = tiny_model(tiny, InnerLoop(1, GROUPS), read_out="mean+mask", rows="mix")
    task = TaskBatch.encode(tiny_episodes(1), warp.encoder)
    module = WholeModel(warp, start(warp, state, task)[0])
    learner = learn2learn_engine.algorithms().MAML(module, lr=0.1, allow_nograd=True, allow_unused=False)
    with twice_differentiable(True):
        clone = learner.clone()
        clone.adapt(clone(task.support))
        clone(task.query).backward()
    read = [name for name, weights in module.named_parameters() if weights.grad is not None and weights.grad.any()]
    assert {"prompt", "rows"} < set(read)
    assert len([name for name in read if name.startswith("model.")]) > 20
    assert all(weights.grad is None for weights in tiny.model.parameters())
