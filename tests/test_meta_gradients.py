"""Meta-gradients: against finite differences, against plain autograd, against each other, against learn2learn."""

import numpy as np
import pytest
import torch
from tiny import NO_STEPS, central_differences, query_loss, tiny_episodes, tiny_model, weights_of
from torch.nn.functional import cross_entropy

from metawarp.adaptation.adapt import read, start, task_losses, trajectory
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.meta_gradients import METHODS, fomaml, maml, multitask, reptile
from metawarp.meta_learning.outer_loss import multi_step_weights

BOTH = ("prompt", "rows")
RATES = InnerRates(prompt=0.3, rows=0.2)  # large, so that what the inner loop does is far from nothing


def learning(backbone, inner, n_tasks=2, k_shot=2, **config):
    """A model, a state that wants gradients, and tasks."""
    warp, state = tiny_model(backbone, inner, learn=True, rates=RATES, **config)
    return warp, state, TaskBatch.encode(tiny_episodes(n_tasks, k_shot=k_shot), warp.encoder)


def assert_exact(found, warp, state, tasks, inner, step_weights=None):
    assert float(found.losses.mean()) == pytest.approx(query_loss(warp, state, tasks, inner, step_weights), abs=1e-12)
    assert found.gradients.keys() == state.keys()
    for name in state:
        assert found.gradients[name].shape == state[name].shape
        entries, slopes = central_differences(warp, state, tasks, inner, name, step_weights)
        gradient = found.gradients[name].reshape(-1)[torch.from_numpy(entries)]
        assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().min() > 1e-7, f"{name} must matter for the comparison to mean something"


# Exact: against central differences ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("rows", ["mix", "support", "names", "regression", "random"])
def test_maml_is_the_slope_of_the_query_loss(tiny, rows, steps):
    inner = InnerLoop(steps, BOTH)
    warp, state, tasks = learning(tiny, inner, rows=rows)
    assert_exact(maml(warp, state, tasks, inner), warp, state, tasks, inner)


@pytest.mark.parametrize("config", [{"similarity": "dot"}, {"read_out": "mask"}, {"read_out": "mean"}], ids=str)
def test_maml_is_exact_with_other_read_outs_and_similarities(tiny_mlm, config):
    inner = InnerLoop(2, BOTH)
    warp, state, tasks = learning(tiny_mlm, inner, **config)
    assert_exact(maml(warp, state, tasks, inner), warp, state, tasks, inner)


@pytest.mark.parametrize("steps", [1, 3])
def test_maml_is_exact_with_the_multi_step_loss(tiny, steps):
    inner = InnerLoop(steps, BOTH)
    warp, state, tasks = learning(tiny, inner)
    weights = [0.1, 0.9] if steps == 1 else [0.1, 0.2, 0.3, 0.4]
    assert_exact(maml(warp, state, tasks, inner, weights), warp, state, tasks, inner, weights)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_anil_is_the_slope_of_the_query_loss(tiny, steps, weighted):
    method = METHODS["anil"]
    assert method.inner.groups == ("rows",)
    inner = InnerLoop(steps, method.inner.groups)
    warp, state, tasks = learning(tiny, inner)
    weights = multi_step_weights(steps, 0.3) if weighted else None
    assert_exact(method.gradient(warp, state, tasks, inner, weights), warp, state, tasks, inner, weights)


def test_maml_of_the_prompt_alone_is_exact(tiny):
    inner = InnerLoop(2, ("prompt",))
    warp, state, tasks = learning(tiny, inner)
    assert_exact(maml(warp, state, tasks, inner), warp, state, tasks, inner)


def test_prototypical_is_exact_and_plain_autograd(tiny):
    method = METHODS["prototypical"]
    assert method.inner == NO_STEPS
    warp, state, tasks = learning(tiny, method.inner)
    found = method.gradient(warp, state, tasks, method.inner, None)
    assert_exact(found, warp, state, tasks, method.inner)
    current, _ = start(warp, state, tasks)
    loss = task_losses(warp, current, read(warp, current, tasks.query), tasks.query, tasks).mean()
    for (name, tensor), plain in zip(state.items(), torch.autograd.grad(loss, list(state.values())), strict=True):
        assert torch.allclose(found.gradients[name], plain.view_as(tensor), rtol=0, atol=1e-12), name


@pytest.mark.parametrize("k_shot", [0, 2])
def test_the_meta_gradient_of_a_batch_is_the_mean_of_those_of_its_tasks(tiny, k_shot):
    inner = InnerLoop(2, BOTH)
    warp, state, tasks = learning(tiny, inner, n_tasks=3, k_shot=k_shot)
    together = maml(warp, state, tasks, inner)
    alone = [
        maml(warp, state, TaskBatch.encode([episode], warp.encoder), inner)
        for episode in tiny_episodes(3, k_shot=k_shot)
    ]
    assert torch.allclose(together.losses, torch.cat([one.losses for one in alone]), rtol=0, atol=1e-10)
    assert together.accuracy == pytest.approx(np.mean([one.accuracy for one in alone]))
    for name in state:
        mean = torch.stack([one.gradients[name] for one in alone]).mean(0)
        assert torch.allclose(together.gradients[name], mean, rtol=0, atol=1e-10), name


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"multitask"}))
def test_tasks_of_unequal_ways_do_not_disturb_each_other(tiny, method):
    inner = METHODS[method].inner
    warp, state = tiny_model(tiny, inner, learn=True, rates=RATES)
    episodes = [tiny_episodes(1, n_way=n_way, seed=n_way)[0] for n_way in (2, 4)]
    batches = [TaskBatch.encode(some, warp.encoder) for some in (episodes, episodes[:1], episodes[1:])]
    together, *alone = (METHODS[method].gradient(warp, state, tasks, inner, None) for tasks in batches)
    for name in state:
        mean = torch.stack([one.gradients[name] for one in alone]).mean(0)
        assert torch.allclose(together.gradients[name], mean, rtol=0, atol=1e-10), name
    assert together.gradients["prompt"].any()


def test_without_support_texts_maml_is_prototypical(tiny):
    inner = InnerLoop(2, BOTH)
    warp, state, tasks = learning(tiny, inner, k_shot=0)
    found, plain = maml(warp, state, tasks, inner), maml(warp, state, tasks, NO_STEPS)
    for name in state:
        assert torch.allclose(found.gradients[name], plain.gradients[name], rtol=0, atol=1e-12), name
    assert not found.gradients["log_inner_lr.prompt"].any()


# First order ----------------------------------------------------------------------------------------------------


def test_first_order_leaves_something_out(tiny):
    inner = InnerLoop(3, BOTH)
    warp, state, tasks = learning(tiny, inner)
    exact, first = maml(warp, state, tasks, inner), fomaml(warp, state, tasks, inner)
    assert torch.allclose(exact.losses, first.losses, rtol=0, atol=1e-12)
    difference = (exact.gradients["prompt"] - first.gradients["prompt"]).norm()
    assert difference > 0.01 * exact.gradients["prompt"].norm()


def test_what_first_order_leaves_out_vanishes_with_the_inner_learning_rate(tiny):
    inner = InnerLoop(3, BOTH)
    warp, state, tasks = learning(tiny, inner)
    gaps = []
    for rate in (1e-2, 1e-4, 1e-12):
        small = {
            name: torch.full_like(tensor, np.log(rate)).requires_grad_() if name.startswith("log_inner") else tensor
            for name, tensor in state.items()
        }
        exact, first = maml(warp, small, tasks, inner), fomaml(warp, small, tasks, inner)
        gaps.append(float((exact.gradients["prompt"] - first.gradients["prompt"]).norm()))
    assert gaps[0] > 50 * gaps[1] > 0
    assert gaps[2] < 1e-10


def test_first_order_learns_the_last_rates_as_exactly_as_maml_does(tiny):
    # θ_S = θ_{S-1} - α·g: the derivative with respect to the last α needs no second derivative.
    inner = InnerLoop(2, BOTH)
    warp, state, tasks = learning(tiny, inner)
    exact, first = maml(warp, state, tasks, inner), fomaml(warp, state, tasks, inner)
    for group in BOTH:
        name = f"log_inner_lr.{group}"
        assert torch.allclose(exact.gradients[name][-1], first.gradients[name][-1], rtol=1e-9)
        assert not torch.allclose(exact.gradients[name][0], first.gradients[name][0], rtol=1e-6)


def test_one_step_of_reptile_is_a_step_along_the_gradient_of_the_loss(tiny):
    inner = InnerLoop(1, BOTH)
    warp, state, tasks = learning(tiny, inner, rows="random")
    found = reptile(warp, state, tasks, inner)
    # With one step (on the queries) and rows that are no function of the prompt, the way back is α·∇L.
    current, _ = start(warp, state, tasks)
    loss = task_losses(warp, current, read(warp, current, tasks.query), tasks.query, tasks).mean()
    (gradient,) = torch.autograd.grad(loss, state["prompt"])
    assert torch.allclose(found.gradients["prompt"], RATES.prompt * gradient, rtol=1e-6, atol=1e-12)
    others = {name: gradient for name, gradient in found.gradients.items() if name != "prompt"}
    assert others.keys() == state.keys() - {"prompt"}
    assert not any(gradient.any() for gradient in others.values())


def test_reptile_goes_back_from_the_mean_of_the_adapted_prompts(tiny):
    inner = InnerLoop(4, BOTH)
    warp, state, tasks = learning(tiny, inner, n_tasks=3)
    found = reptile(warp, state, tasks, inner)
    states = trajectory(warp, state, tasks, inner, batches=(tasks.query, tasks.support))
    expected = state["prompt"] - states[-1]["prompt"].mean(0)
    assert torch.allclose(found.gradients["prompt"], expected, rtol=0, atol=1e-12)
    assert expected.norm() > 1e-3
    assert found.losses.shape == (3,)


@pytest.mark.parametrize("k_shot", [0, 2])
def test_multitask_is_classification_over_all_classes(tiny, k_shot):
    warp, state = tiny_model(tiny, learn=True)
    episodes = tiny_episodes(2, k_shot=k_shot)
    classes = episodes[0].corpus.class_names
    rows = torch.randn(len(classes), 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state["class_rows"] = rows.requires_grad_()
    tasks = TaskBatch.encode(episodes, warp.encoder, classes=classes)
    found = multitask(warp, state, tasks, NO_STEPS)

    losses, right = [], []
    for episode in episodes:
        texts = [*episode.support_texts, *episode.query_texts]
        labels = [classes.index(episode.class_names[c]) for c in [*episode.support_labels, *episode.query_labels]]
        task = torch.zeros(len(texts), dtype=torch.long)
        features = warp.features(state["prompt"][None], weights_of(state), warp.encoder(texts), task)
        cosines = torch.nn.functional.cosine_similarity(features[:, None], rows[None], dim=-1)
        logits = state["log_scale"].exp() * cosines
        losses.append(cross_entropy(logits, torch.tensor(labels)))
        right += (logits.argmax(1) == torch.tensor(labels)).tolist()
    loss = torch.stack(losses).mean()
    assert torch.allclose(found.losses, torch.stack(losses), rtol=0, atol=1e-12)
    assert found.accuracy == pytest.approx(np.mean(right))
    expected = torch.autograd.grad(loss, list(state.values()), allow_unused=True)
    for name, gradient in zip(state, expected, strict=True):
        if name == "name_weight":
            assert gradient is None
            assert not found.gradients[name].any()
        else:
            assert torch.allclose(found.gradients[name], gradient, rtol=0, atol=1e-10), name


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_finite_gradients_for_every_tensor_and_leaves_the_state_alone(tiny, method):
    inner = METHODS[method].inner
    warp, state, _ = learning(tiny, inner)
    episodes = tiny_episodes(2)
    classes = episodes[0].corpus.class_names
    if METHODS[method].class_rows:
        state["class_rows"] = torch.ones(len(classes), 64, dtype=torch.float64, requires_grad=True)
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    random = torch.random.get_rng_state()
    found = METHODS[method].gradient(
        warp, state, TaskBatch.encode(episodes, warp.encoder, classes=classes), inner, None
    )
    assert torch.equal(torch.random.get_rng_state(), random), "nothing draws from the global random state"
    assert found.gradients.keys() == state.keys()
    assert found.losses.shape == (2,)
    assert not found.losses.requires_grad
    assert 0 <= found.accuracy <= 1
    for name, tensor in state.items():
        assert found.gradients[name].shape == tensor.shape
        assert found.gradients[name].isfinite().all()
        assert torch.equal(tensor.detach(), before[name])
        assert tensor.grad is None
    assert found.gradients["prompt"].any()


def test_maml_goes_through_real_weights_twice(minilm):
    """The second derivative of attention exists (the fused kernels have none)."""
    inner = InnerLoop(1, BOTH)
    warp, state, tasks = learning(minilm, inner, n_tasks=1, k_shot=1, prompt_start="mask")
    exact, first = maml(warp, state, tasks, inner), fomaml(warp, state, tasks, inner)
    assert exact.gradients["prompt"].isfinite().all()
    assert not torch.allclose(exact.gradients["prompt"], first.gradients["prompt"], rtol=0.01)


# The multi-step loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("progress", [-1.0, 0.0, 0.3, 1.0, 2.0])
def test_multi_step_weights_sum_to_one(steps, progress):
    weights = multi_step_weights(steps, progress)
    assert len(weights) == steps + 1
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert weights[-1] == pytest.approx(max(weights))


def test_multi_step_weights_go_from_all_steps_alike_to_the_last_alone():
    assert multi_step_weights(4, 0.0) == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert multi_step_weights(4, 0.5) == pytest.approx([0, 0.125, 0.125, 0.125, 0.625])
    assert multi_step_weights(4, 1.0) == pytest.approx([0, 0, 0, 0, 1])
    assert multi_step_weights(0, 0.0) == [1.0]


def test_weights_on_the_last_step_alone_are_the_default(tiny):
    inner = InnerLoop(2, BOTH)
    warp, state, tasks = learning(tiny, inner)
    default, explicit = maml(warp, state, tasks, inner), maml(warp, state, tasks, inner, [0.0, 0.0, 1.0])
    assert all(torch.equal(default.gradients[name], explicit.gradients[name]) for name in state)
