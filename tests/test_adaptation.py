"""The inner loop: each step is the gradient step that it says it is, task by task, with its own learning rate."""

import pytest
import torch
from running import refused
from tiny import query_logits, tiny_corpus, tiny_episodes, tiny_model, weights_of
from torch.nn.functional import cross_entropy

from episodes import Episode, EpisodeSampler
from metawarp.adaptation.adapt import read, start, task_losses, trajectory
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates, inner_lr
from metawarp.adaptation.tasks import TaskBatch

BOTH = ("prompt", "rows")


def encoded(warp, episodes):
    return TaskBatch.encode(episodes, warp.encoder)


def support_losses(warp, state, tasks, inner):
    """Support loss of each task after 0 … S steps, (S + 1, T)."""
    states = trajectory(warp, state, tasks, inner)
    return torch.stack([task_losses(warp, s, read(warp, s, tasks.support), tasks.support, tasks) for s in states])


def test_no_steps_leave_the_start(tiny):
    warp, state = tiny_model(tiny)
    tasks = encoded(warp, tiny_episodes(3))
    states = trajectory(warp, state, tasks, InnerLoop(0, ()))
    expected, _ = start(warp, state, tasks)
    assert len(states) == 1
    for name in ("prompt", "rows", "scale"):
        assert torch.equal(states[0][name], expected[name]), name
    assert torch.equal(states[0]["prompt"], state["prompt"][None])


def test_a_step_on_the_rows_is_the_softmax_regression_step(tiny):
    inner = InnerLoop(1, ("rows",))
    warp, state = tiny_model(tiny, inner, rows="random", similarity="dot")
    state["log_inner_lr.rows"] = torch.tensor([0.03], dtype=torch.float64).log()
    (episode,) = tiny_episodes(1)
    tasks = encoded(warp, [episode])
    before, after = trajectory(warp, state, tasks, inner)
    features, rows, scale = read(warp, before, tasks.support), before["rows"][0], state["log_scale"].exp()
    labels = torch.tensor(episode.support_labels)
    # d/dV_c of mean cross-entropy = scale · mean over texts of (p_c - [c is the label]) · f
    probabilities = (scale * features @ rows.T).softmax(-1)
    wrong = probabilities - torch.nn.functional.one_hot(labels, 3)
    expected = rows - 0.03 * scale * wrong.T @ features / len(labels)
    assert torch.allclose(after["rows"][0], expected, rtol=0, atol=1e-12)
    assert torch.equal(after["prompt"], before["prompt"])


@pytest.mark.parametrize("rows", ["mix", "support", "names", "regression", "random"])
def test_a_step_on_the_prompt_holds_the_rows_fixed(tiny, rows):
    inner = InnerLoop(1, BOTH)
    warp, state = tiny_model(tiny, inner, rows=rows, rates=InnerRates(prompt=0.5, rows=0.2))
    (episode,) = tiny_episodes(1)
    tasks = encoded(warp, [episode])
    before, after = trajectory(warp, state, tasks, inner)
    fixed, scale, mix = before["rows"][0].detach(), state["log_scale"].exp(), weights_of(state)
    labels = torch.tensor(episode.support_labels)

    def loss(prompt, verbalizer):
        task = torch.zeros(len(labels), dtype=torch.long)
        features = warp.features(prompt[None], mix, warp.encoder(episode.support_texts), task)
        return cross_entropy(warp.logits(features, verbalizer, scale), labels)

    prompt, free = state["prompt"].clone().requires_grad_(), fixed.clone().requires_grad_()
    by_prompt, by_rows = torch.autograd.grad(loss(prompt, free), [prompt, free])
    assert torch.allclose(after["prompt"][0], prompt - 0.5 * by_prompt, rtol=0, atol=1e-7)
    assert torch.allclose(after["rows"][0], fixed - 0.2 * by_rows, rtol=0, atol=1e-7)
    if rows in ("mix", "support"):  # The total derivative would be another one: rows are made with the same prompt.
        current, _ = start(warp, {**state, "prompt": prompt}, tasks)
        (total,) = torch.autograd.grad(loss(prompt, current["rows"][0]), prompt)
        assert not torch.allclose(total, by_prompt, rtol=0.01)


@pytest.mark.parametrize("groups", [("rows",), ("prompt",), BOTH])
def test_small_steps_lower_the_support_loss_of_every_task(tiny, groups):
    inner = InnerLoop(5, groups)
    warp, state = tiny_model(tiny, inner, rates=InnerRates(prompt=0.02, rows=0.02))
    losses = support_losses(warp, state, encoded(warp, tiny_episodes(3)), inner)
    assert (losses.diff(dim=0) < 0).all()


@pytest.mark.parametrize(("groups", "still"), [(("rows",), "prompt"), (("prompt",), "rows")])
def test_only_the_given_groups_move(tiny, groups, still):
    inner = InnerLoop(2, groups)
    warp, state = tiny_model(tiny, inner)
    states = trajectory(warp, state, encoded(warp, tiny_episodes(2)), inner)
    assert all(torch.equal(s[still], states[0][still]) for s in states)
    assert not torch.equal(states[1][groups[0]], states[0][groups[0]])
    assert not torch.equal(states[2][groups[0]], states[1][groups[0]])


def test_a_task_without_support_stays_at_its_start_also_beside_others(tiny):
    inner = InnerLoop(3, BOTH)
    warp, state = tiny_model(tiny, inner)
    zero, two = tiny_episodes(1, k_shot=0)[0], tiny_episodes(1, k_shot=2, seed=1)[0]
    alone = trajectory(warp, state, encoded(warp, [zero]), inner)
    assert len(alone) == 4
    assert all(torch.equal(s["prompt"], alone[0]["prompt"]) for s in alone)
    assert all(torch.equal(s["rows"], alone[0]["rows"]) for s in alone)
    beside = trajectory(warp, state, encoded(warp, [zero, two]), inner)
    for name in BOTH:
        assert torch.allclose(beside[-1][name][0], alone[-1][name][0], rtol=0, atol=1e-12)
        assert not torch.allclose(beside[-1][name][1], beside[0][name][1], atol=1e-4)


def test_tasks_of_different_ways_and_shots_adapt_as_they_would_alone(tiny):
    inner = InnerLoop(3, BOTH)
    warp, state = tiny_model(tiny, inner)
    corpus = tiny_corpus()
    episodes = [
        EpisodeSampler(corpus, 3, 1, 3, seed=0)[0],
        EpisodeSampler(corpus, 5, 4, 2, seed=1)[0],
        EpisodeSampler(corpus, 2, 0, 2, seed=2)[0],
        EpisodeSampler(corpus, 4, (0, 3), 1, seed=3, balanced=False)[0],
    ]
    together = query_logits(warp, state, episodes, inner)
    for episode, logits in zip(episodes, together, strict=True):
        assert logits.shape == (len(episode.query_labels), episode.n_way)
        assert torch.allclose(logits, query_logits(warp, state, [episode], inner)[0], rtol=0, atol=1e-10)


def test_every_step_has_its_own_learning_rate_and_later_ones_the_last(tiny):
    inner = InnerLoop(3, ("rows",))
    warp, state = tiny_model(tiny, inner, similarity="dot")
    state["log_inner_lr.rows"] = torch.tensor([0.1, 0.02], dtype=torch.float64).log()
    states = trajectory(warp, state, encoded(warp, tiny_episodes(1)), inner)
    tasks = encoded(warp, tiny_episodes(1))
    for step, rate in enumerate([0.1, 0.02, 0.02]):
        rows = states[step]["rows"].detach().requires_grad_()
        current = {**states[step], "rows": rows}
        loss = task_losses(warp, current, read(warp, current, tasks.support), tasks.support, tasks).sum()
        (gradient,) = torch.autograd.grad(loss, rows)
        assert torch.allclose(states[step + 1]["rows"], rows - rate * gradient, rtol=0, atol=1e-12)
        assert inner_lr(state, "rows", step) == pytest.approx(rate)


def test_each_group_has_its_own_learning_rate(tiny):
    inner = InnerLoop(1, BOTH)
    moved = {}
    for rates in (InnerRates(prompt=0.1, rows=0.1), InnerRates(prompt=0.3, rows=0.2)):
        warp, state = tiny_model(tiny, inner, rates=rates)
        before, after = trajectory(warp, state, encoded(warp, tiny_episodes(1)), inner)
        moved[rates] = {group: after[group] - before[group] for group in BOTH}
    one, other = moved.values()
    assert torch.allclose(other["prompt"], 3 * one["prompt"], rtol=1e-5)
    assert torch.allclose(other["rows"], 2 * one["rows"], rtol=1e-5)


def test_steps_can_take_other_texts_in_turn(tiny):
    inner = InnerLoop(3, BOTH)
    warp, state = tiny_model(tiny, inner)
    tasks = encoded(warp, tiny_episodes(2))
    in_turn = trajectory(warp, state, tasks, inner, batches=(tasks.query, tasks.support))
    for step, texts in enumerate([tasks.query, tasks.support, tasks.query]):
        current = {**in_turn[step], **{group: in_turn[step][group].detach().requires_grad_() for group in BOTH}}
        loss = task_losses(warp, current, read(warp, current, texts), texts, tasks).sum()
        for group, gradient in zip(BOTH, torch.autograd.grad(loss, [current[g] for g in BOTH]), strict=True):
            expected = current[group] - inner_lr(state, group, step) * gradient
            assert torch.allclose(in_turn[step + 1][group], expected, rtol=0, atol=1e-12), (step, group)


def test_the_state_is_left_as_it_was(tiny):
    inner = InnerLoop(2, BOTH)
    warp, state = tiny_model(tiny, inner)
    before = {name: tensor.clone() for name, tensor in state.items()}
    trajectory(warp, state, encoded(warp, tiny_episodes(2)), inner)
    for name, tensor in state.items():
        assert torch.equal(tensor, before[name])
        assert not tensor.requires_grad


def test_it_draws_nothing_from_the_global_random_state(tiny):
    inner = InnerLoop(2, BOTH)
    warp, state = tiny_model(tiny, inner, rows="random", prompt_start="vocabulary")
    before = torch.random.get_rng_state()
    trajectory(warp, state, encoded(warp, tiny_episodes(2)), inner)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_task_of_the_users_own_adapts_too(minilm):
    """Real text: after a few steps the support texts are told apart with more certainty."""
    inner = InnerLoop(3, BOTH)
    warp, state = tiny_model(minilm, inner, prompt_start="mask", rates=InnerRates(prompt=0.02, rows=0.05))
    texts = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
    tasks = encoded(warp, [Episode.from_texts(["delivery", "refund"], texts, [0, 0, 1, 1])])
    losses = support_losses(warp, state, tasks, inner)[:, 0]
    assert (losses.diff() < 0).all()


def test_what_an_inner_loop_can_be():
    with refused("inner steps are -1; they cannot be negative."):
        InnerLoop(-1, BOTH)
    with refused("the inner loop moves ['prompt', 'scale']; it can move one or more of ['prompt', 'rows']."):
        InnerLoop(1, ("prompt", "scale"))
    with refused("the inner loop moves []; it can move one or more of ['prompt', 'rows']."):
        InnerLoop(1, ())
    assert InnerLoop(0, ()).groups == ()


def test_another_number_of_inner_steps_changes_nothing_else():
    inner = InnerLoop(5, ("prompt", "rows"), proximal=1.0)
    assert inner.with_steps(None) == inner
    assert inner.with_steps(2) == InnerLoop(2, ("prompt", "rows"), proximal=1.0)
    assert inner.with_steps(0) == InnerLoop(0, (), proximal=1.0)
