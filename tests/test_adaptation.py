"""The inner loop: each step is a gradient step of each task, with the learning rate of its group and number."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import NO_STEPS, query_logits, tiny_corpus, tiny_episodes, tiny_model
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.testing import assert_close
from trainings import equal

from episodes import EpisodeSampler
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.adaptation.trajectory import trajectory
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.parameters import mapped, tensors_of
from metawarp.texts.task_batch import TaskBatch


@pytest.fixture
def model(tiny):
    """A function that returns a tiny model, an init, and the encoded tasks of tiny episodes."""

    def create(inner=NO_STEPS, n_tasks=1, **settings):
        warp, init = tiny_model(tiny, inner, **settings)
        return warp, init, TaskBatch.encode(tiny_episodes(n_tasks), warp.encoder)

    return create


def losses(warp, parameters, texts, tasks):
    return losses_of(warp, parameters, read_texts(warp, parameters, texts), texts, tasks)


def support_losses(warp, init, tasks, inner):
    """Support loss of each task after 0 … S steps, (S + 1, T)."""
    return torch.stack(
        [losses(warp, state, tasks.support, tasks) for state in trajectory(warp, init, tasks, inner).states]
    )


def assert_step(warp, init, states, number, texts, tasks, groups):
    """Check that a step moves each group by its learning rate along the gradient of the mean loss of the texts."""
    before, after = states[number : number + 2]
    current = replace(before, **{group: getattr(before, group).detach().requires_grad_() for group in groups})
    variables = [getattr(current, group) for group in groups]
    gradients = torch.autograd.grad(losses(warp, current, texts, tasks).sum(), variables)
    for group, variable, gradient in zip(groups, variables, gradients, strict=True):
        expected = variable - init.inner_lr(group, number) * gradient
        assert_close(getattr(after, group), expected, rtol=0, atol=1e-12)


def test_without_steps_tasks_keep_their_start(model):
    warp, init, tasks = model(n_tasks=3)
    (state,) = trajectory(warp, init, tasks, NO_STEPS).states
    assert equal(tensors_of(state), tensors_of(start(warp, init, tasks)[0]))
    assert torch.equal(state.adapter, init.adapter[None])


def test_a_step_on_class_embeddings_is_a_step_of_softmax_regression(model):
    inner = InnerLoop(1, ("class_embeddings",))
    warp, init, tasks = model(inner, rates=InnerLearningRates(class_embeddings=0.03))
    before, after = trajectory(warp, init, tasks, inner).states
    features, scale = read_texts(warp, before, tasks.support), init.log_scale.exp()
    embeddings, labels = before.class_embeddings[0].detach(), torch.tensor(tiny_episodes(1)[0].support_labels)
    lengths = embeddings.norm(dim=-1, keepdim=True)
    directions, units = embeddings / lengths, torch.nn.functional.normalize(features, dim=-1)
    # The logit scale·cos(f, v) has the derivative scale·(f/‖f‖ - cos·v/‖v‖)/‖v‖ with respect to v.
    cosines = units @ directions.T
    wrong = (scale * cosines).softmax(-1) - torch.nn.functional.one_hot(labels, 3)
    gradient = scale * (wrong.T @ units - (wrong * cosines).sum(0)[:, None] * directions) / lengths / len(labels)
    assert_close(after.class_embeddings[0], embeddings - 0.03 * gradient, rtol=0, atol=1e-8)
    assert torch.equal(after.adapter, before.adapter)


@pytest.mark.parametrize("verbalizer", ["mix", "support", "names", "regression"])
def test_a_step_on_the_adapter_holds_the_class_embeddings_fixed(model, verbalizer):
    inner = InnerLoop(1, GROUPS)
    warp, init, tasks = model(inner, verbalizer=verbalizer, rates=InnerLearningRates(0.5, 0.2))
    states = trajectory(warp, init, tasks, inner).states
    assert_step(warp, init, states, 0, tasks.support, tasks, GROUPS)
    if verbalizer in ("mix", "support"):  # The total derivative is another one: the embeddings depend on the adapter.
        adapter = init.adapter.clone().requires_grad_()
        current, _ = start(warp, replace(init, adapter=adapter), tasks)
        (total,) = torch.autograd.grad(losses(warp, current, tasks.support, tasks).sum(), adapter)
        assert not torch.allclose(init.adapter - 0.5 * total, states[1].adapter[0], atol=1e-4)


@pytest.mark.parametrize("groups", [("class_embeddings",), ("adapter",), GROUPS])
def test_small_steps_lower_the_support_loss_of_every_task(model, groups):
    inner = InnerLoop(5, groups)
    warp, init, tasks = model(inner, n_tasks=3, rates=InnerLearningRates(adapter=0.02, class_embeddings=0.02))
    assert (support_losses(warp, init, tasks, inner).diff(dim=0) < 0).all()


@pytest.mark.parametrize(("group", "still"), [GROUPS, GROUPS[::-1]])
def test_only_the_given_group_moves(model, group, still):
    inner = InnerLoop(2, (group,))
    warp, init, tasks = model(inner, n_tasks=2)
    states = [tensors_of(state) for state in trajectory(warp, init, tasks, inner).states]
    assert all(torch.equal(state[still], states[0][still]) for state in states)
    assert not any(torch.equal(states[i + 1][group], states[i][group]) for i in range(2))


def test_a_task_without_support_stays_at_its_start_also_beside_others(tiny):
    inner = InnerLoop(3, GROUPS)
    warp, init = tiny_model(tiny, inner)
    zero, two = tiny_episodes(1, k_shot=0)[0], tiny_episodes(1, k_shot=2, seed=1)[0]
    alone, beside = (
        [tensors_of(state) for state in trajectory(warp, init, TaskBatch.encode(episodes, warp.encoder), inner).states]
        for episodes in ([zero], [zero, two])
    )
    for name in GROUPS:
        assert all(torch.equal(state[name], alone[0][name]) for state in alone)
        assert_close(beside[-1][name][0], alone[-1][name][0], rtol=0, atol=1e-12)
        assert not torch.allclose(beside[-1][name][1], beside[0][name][1], atol=1e-4)


def test_tasks_of_different_ways_and_shots_adapt_as_they_would_alone(tiny):
    inner = InnerLoop(3, GROUPS)
    warp, init = tiny_model(tiny, inner)
    sizes = ((3, 1, 3), (5, 4, 2), (2, 0, 2))
    episodes = [EpisodeSampler(tiny_corpus(), *some, seed)[0] for seed, some in enumerate(sizes)]
    episodes.append(EpisodeSampler(tiny_corpus(), 4, (0, 3), 1, seed=3, balanced=False)[0])
    for episode, logits in zip(episodes, query_logits(warp, init, episodes, inner), strict=True):
        assert logits.shape == (len(episode.query_labels), episode.n_way)
        assert_close(logits, query_logits(warp, init, [episode], inner)[0], rtol=0, atol=1e-10)


def test_every_step_has_its_own_learning_rate_and_later_steps_have_the_last(model):
    inner = InnerLoop(3, ("class_embeddings",))
    warp, init, tasks = model(inner)
    init = replace(init, log_class_embedding_lr=torch.tensor([0.1, 0.02], dtype=torch.float64).log())
    states = trajectory(warp, init, tasks, inner).states
    for number, rate in enumerate([0.1, 0.02, 0.02]):
        assert init.inner_lr("class_embeddings", number) == pytest.approx(rate)
        assert_step(warp, init, states, number, tasks.support, tasks, inner.updates)


def test_steps_can_use_several_batches_of_texts_in_turn(model):
    inner = InnerLoop(3, GROUPS)
    warp, init, tasks = model(inner, n_tasks=2, rates=InnerLearningRates(0.3, 0.2))
    states = trajectory(warp, init, tasks, inner, batches=(tasks.query, tasks.support)).states
    for number, texts in enumerate([tasks.query, tasks.support, tasks.query]):
        assert_step(warp, init, states, number, texts, tasks, GROUPS)


def test_the_init_and_the_global_random_state_do_not_change(model):
    inner = InnerLoop(2, GROUPS)
    warp, init, tasks = model(inner, prompt_start="vocabulary")
    before, random = tensors_of(mapped(init, torch.clone)), torch.random.get_rng_state()
    trajectory(warp, init, tasks, inner)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert equal(tensors_of(init), before) and not any(tensor.requires_grad for tensor in tensors_of(init).values())


def test_the_loss_is_the_cross_entropy_of_scaled_cosines(model):
    warp, init, tasks = model()
    current, _ = start(warp, init, tasks)
    features = read_texts(warp, current, tasks.query)
    cosines = cosine_similarity(features[:, None], current.class_embeddings, dim=-1)
    expected = cross_entropy(init.log_scale.exp() * cosines, torch.tensor(tiny_episodes(1)[0].query_labels))
    assert_close(losses(warp, current, tasks.query, tasks), expected[None])


def test_impossible_inner_loops_are_refused():
    with refused("inner_steps=-1", "at least 0"):
        InnerLoop(-1, GROUPS)
    for updates in (("adapter", "scale"), ()):
        with refused(f"updates={list(updates)}", "adapter", "class_embeddings"):
            InnerLoop(1, updates)  # pyright: ignore[reportArgumentType]
    assert InnerLoop().moving == InnerLoop(0, GROUPS).moving == ()


def test_another_number_of_inner_steps_changes_nothing_else():
    inner = InnerLoop(5, GROUPS)
    assert inner.with_steps(None) == inner
    assert inner.with_steps(2) == InnerLoop(2, GROUPS)
    assert inner.with_steps(0) == InnerLoop()
