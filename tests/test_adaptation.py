"""The inner loop: every step is the gradient step that it claims to be, task by task, with its own learning rate."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import NO_STEPS, query_logits, tiny_corpus, tiny_episodes, tiny_model
from torch.nn.functional import cosine_similarity, cross_entropy

from episodes import Episode, EpisodeSampler
from metawarp.adaptation.adapt import trajectory
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch


def encoded(warp, episodes):
    return TaskBatch.encode(episodes, warp.encoder)


def losses(warp, parameters, texts, tasks):
    return losses_of(warp, parameters, read_texts(warp, parameters, texts), texts, tasks)


def support_losses(warp, init, tasks, inner):
    """Support loss of each task after 0 … S steps, (S + 1, T)."""
    return torch.stack([losses(warp, state, tasks.support, tasks) for state in trajectory(warp, init, tasks, inner)])


def assert_step(warp, init, before, after, texts, tasks, groups, number):
    """Each group has moved by its learning rate along the gradient of the mean loss of the texts."""
    current = replace(before, **{group: getattr(before, group).detach().requires_grad_() for group in groups})
    variables = [getattr(current, group) for group in groups]
    gradients = torch.autograd.grad(losses(warp, current, texts, tasks).sum(), variables)
    for group, variable, gradient in zip(groups, variables, gradients, strict=True):
        expected = variable - init.inner_lr(group, number) * gradient
        assert torch.allclose(getattr(after, group), expected, rtol=0, atol=1e-12), (number, group)


def test_without_steps_tasks_keep_their_start(tiny):
    warp, init = tiny_model(tiny)
    tasks = encoded(warp, tiny_episodes(3))
    (state,) = trajectory(warp, init, tasks, NO_STEPS)
    expected = tensors_of(start(warp, init, tasks)[0])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors_of(state).items())
    assert torch.equal(state.adapter, init.adapter[None])


def test_a_step_on_class_embeddings_is_the_softmax_regression_step(tiny):
    inner = InnerLoop(1, ("class_embeddings",))
    warp, init = tiny_model(tiny, inner, rates=InnerLearningRates(class_embeddings=0.03))
    (episode,) = tiny_episodes(1)
    tasks = encoded(warp, [episode])
    before, after = trajectory(warp, init, tasks, inner)
    features, scale = read_texts(warp, before, tasks.support), init.log_scale.exp()
    embeddings, labels = before.class_embeddings[0].detach(), torch.tensor(episode.support_labels)
    lengths = embeddings.norm(dim=-1, keepdim=True)
    directions, units = embeddings / lengths, torch.nn.functional.normalize(features, dim=-1)
    # The logit scale·cos(f, v) has the derivative scale·(f/‖f‖ - cos·v/‖v‖)/‖v‖ with respect to v.
    cosines = units @ directions.T
    wrong = (scale * cosines).softmax(-1) - torch.nn.functional.one_hot(labels, 3)
    slope = scale * (wrong.T @ units - (wrong * cosines).sum(0)[:, None] * directions) / lengths / len(labels)
    assert torch.allclose(after.class_embeddings[0], embeddings - 0.03 * slope, rtol=0, atol=1e-8)
    assert torch.equal(after.adapter, before.adapter)


@pytest.mark.parametrize("verbalizer", ["mix", "support", "names", "regression"])
def test_a_step_on_the_adapter_holds_the_class_embeddings_fixed(tiny, verbalizer):
    inner = InnerLoop(1, GROUPS)
    rates = InnerLearningRates(adapter=0.5, class_embeddings=0.2)
    warp, init = tiny_model(tiny, inner, verbalizer=verbalizer, rates=rates)
    tasks = encoded(warp, tiny_episodes(1))
    before, after = trajectory(warp, init, tasks, inner)
    assert_step(warp, init, before, after, tasks.support, tasks, GROUPS, 0)
    if verbalizer in ("mix", "support"):  # The total derivative is another one: the embeddings depend on the adapter.
        adapter = init.adapter.clone().requires_grad_()
        current, _ = start(warp, replace(init, adapter=adapter), tasks)
        (total,) = torch.autograd.grad(losses(warp, current, tasks.support, tasks).sum(), adapter)
        assert not torch.allclose(init.adapter - 0.5 * total, after.adapter[0], atol=1e-4)


@pytest.mark.parametrize("groups", [("class_embeddings",), ("adapter",), GROUPS])
def test_small_steps_lower_the_support_loss_of_every_task(tiny, groups):
    inner = InnerLoop(5, groups)
    warp, init = tiny_model(tiny, inner, rates=InnerLearningRates(adapter=0.02, class_embeddings=0.02))
    assert (support_losses(warp, init, encoded(warp, tiny_episodes(3)), inner).diff(dim=0) < 0).all()


@pytest.mark.parametrize(("group", "still"), [GROUPS, GROUPS[::-1]])
def test_only_the_given_group_moves(tiny, group, still):
    inner = InnerLoop(2, (group,))
    warp, init = tiny_model(tiny, inner)
    states = [tensors_of(state) for state in trajectory(warp, init, encoded(warp, tiny_episodes(2)), inner)]
    assert all(torch.equal(state[still], states[0][still]) for state in states)
    assert not any(torch.equal(states[i + 1][group], states[i][group]) for i in range(2))


def test_a_task_without_support_stays_at_its_start_also_beside_others(tiny):
    inner = InnerLoop(3, GROUPS)
    warp, init = tiny_model(tiny, inner)
    zero, two = tiny_episodes(1, k_shot=0)[0], tiny_episodes(1, k_shot=2, seed=1)[0]
    alone = [tensors_of(state) for state in trajectory(warp, init, encoded(warp, [zero]), inner)]
    beside = [tensors_of(state) for state in trajectory(warp, init, encoded(warp, [zero, two]), inner)]
    assert len(alone) == 4
    for name in GROUPS:
        assert all(torch.equal(state[name], alone[0][name]) for state in alone)
        assert torch.allclose(beside[-1][name][0], alone[-1][name][0], rtol=0, atol=1e-12)
        assert not torch.allclose(beside[-1][name][1], beside[0][name][1], atol=1e-4)


def test_tasks_of_different_ways_and_shots_adapt_as_they_would_alone(tiny):
    inner = InnerLoop(3, GROUPS)
    warp, init = tiny_model(tiny, inner)
    corpus = tiny_corpus()
    episodes = [
        EpisodeSampler(corpus, 3, 1, 3, seed=0)[0],
        EpisodeSampler(corpus, 5, 4, 2, seed=1)[0],
        EpisodeSampler(corpus, 2, 0, 2, seed=2)[0],
        EpisodeSampler(corpus, 4, (0, 3), 1, seed=3, balanced=False)[0],
    ]
    for episode, logits in zip(episodes, query_logits(warp, init, episodes, inner), strict=True):
        assert logits.shape == (len(episode.query_labels), episode.n_way)
        assert torch.allclose(logits, query_logits(warp, init, [episode], inner)[0], rtol=0, atol=1e-10)


def test_every_step_has_its_own_learning_rate_and_later_ones_the_last(tiny):
    inner = InnerLoop(3, ("class_embeddings",))
    warp, init = tiny_model(tiny, inner)
    init = replace(init, log_class_embedding_lr=torch.tensor([0.1, 0.02], dtype=torch.float64).log())
    tasks = encoded(warp, tiny_episodes(1))
    states = trajectory(warp, init, tasks, inner)
    for number, rate in enumerate([0.1, 0.02, 0.02]):
        assert init.inner_lr("class_embeddings", number) == pytest.approx(rate)
        assert_step(warp, init, states[number], states[number + 1], tasks.support, tasks, inner.updates, number)


def test_each_group_has_its_own_learning_rate(tiny):
    inner = InnerLoop(1, GROUPS)
    moved = []
    for adapter, class_embeddings in ((0.1, 0.1), (0.3, 0.2)):
        warp, init = tiny_model(tiny, inner, rates=InnerLearningRates(adapter, class_embeddings))
        before, after = map(tensors_of, trajectory(warp, init, encoded(warp, tiny_episodes(1)), inner))
        moved.append({group: after[group] - before[group] for group in GROUPS})
    assert torch.allclose(moved[1]["adapter"], 3 * moved[0]["adapter"], rtol=1e-5)
    assert torch.allclose(moved[1]["class_embeddings"], 2 * moved[0]["class_embeddings"], rtol=1e-5)


def test_steps_can_use_other_texts_in_turn(tiny):
    inner = InnerLoop(3, GROUPS)
    warp, init = tiny_model(tiny, inner)
    tasks = encoded(warp, tiny_episodes(2))
    states = trajectory(warp, init, tasks, inner, batches=(tasks.query, tasks.support))
    for number, texts in enumerate([tasks.query, tasks.support, tasks.query]):
        assert_step(warp, init, states[number], states[number + 1], texts, tasks, GROUPS, number)


def test_the_init_and_the_global_random_state_are_left_alone(tiny):
    inner = InnerLoop(2, GROUPS)
    warp, init = tiny_model(tiny, inner, prompt_start="vocabulary")
    before = {name: tensor.clone() for name, tensor in tensors_of(init).items()}
    random = torch.random.get_rng_state()
    trajectory(warp, init, encoded(warp, tiny_episodes(2)), inner)
    assert torch.equal(torch.random.get_rng_state(), random)
    for name, tensor in tensors_of(init).items():
        assert torch.equal(tensor, before[name]) and not tensor.requires_grad


def test_the_loss_is_the_cross_entropy_of_scaled_cosines(tiny):
    warp, init = tiny_model(tiny)
    (episode,) = tiny_episodes(1)
    tasks = encoded(warp, [episode])
    current, _ = start(warp, init, tasks)
    cosines = cosine_similarity(
        read_texts(warp, current, tasks.query)[:, None], current.class_embeddings[0][None], dim=-1
    )
    expected = cross_entropy(init.log_scale.exp() * cosines, torch.tensor(episode.query_labels))
    assert torch.allclose(losses(warp, current, tasks.query, tasks), expected)


def test_real_texts_are_distinguished_with_more_certainty_after_each_step(minilm):
    inner = InnerLoop(3, GROUPS)
    rates = InnerLearningRates(adapter=0.02, class_embeddings=0.05)
    warp, init = tiny_model(minilm, inner, prompt_start="mask", rates=rates)
    texts = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
    tasks = encoded(warp, [Episode.from_texts(["delivery", "refund"], texts, [0, 0, 1, 1])])
    assert (support_losses(warp, init, tasks, inner)[:, 0].diff() < 0).all()


def test_impossible_inner_loops_are_refused():
    with refused("inner_steps=-1", "at least 0"):
        InnerLoop(-1, GROUPS)
    for updates in (("adapter", "scale"), ()):
        with refused(f"updates={list(updates)}", "adapter", "class_embeddings"):
            InnerLoop(1, updates)
    assert InnerLoop().moving == InnerLoop(0, GROUPS).moving == ()


def test_another_number_of_inner_steps_changes_nothing_else():
    inner = InnerLoop(5, GROUPS)
    assert inner.with_steps(None) == inner
    assert inner.with_steps(2) == InnerLoop(2, GROUPS)
    assert inner.with_steps(0) == InnerLoop()
