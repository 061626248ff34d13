"""Regularizers: what each is, that its shifts stay within their size and raise the loss, and that training uses it."""

from dataclasses import replace

import pytest
import torch
from running import log_of, refused
from tiny import NO_STEPS, tiny_corpus, tiny_episodes, tiny_model, weights_of

from episodes import EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.adapt import read, start, task_losses
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning import regularizers
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.meta_learning.regularizers import REGULARIZERS, TEMPERATURE, contrastive_loss, scal, shifted, sift
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer

FORMS = ["input", "deep", "prefix", "pool:2", "lora:2", "weights"]


def setting(tiny, form="input", **config):
    warp, state = tiny_model(tiny, learn=True, form=form, **config)
    return warp, state, TaskBatch.encode(tiny_episodes(2), warp.encoder)


def moved_queries(warp, state, tasks, size):
    return shifted(warp, start(warp, state, tasks)[0], tasks, tasks.query, size)


def losses_of(warp, state, tasks):
    current, _ = start(warp, state, tasks)
    return lambda texts: task_losses(warp, current, read(warp, current, texts), texts, tasks).sum()


def float_of(loss):
    return float(loss.detach())


# The shift ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_layer", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_a_shift_raises_the_loss_and_stays_within_its_size(tiny, form, prompt_layer):
    warp, state, tasks = setting(tiny, form, prompt_layer=prompt_layer)
    losses = losses_of(warp, state, tasks)
    moved = moved_queries(warp, state, tasks, 0.01)
    length = moved.batch.shift.norm(dim=-1)
    of_texts = tasks.query.batch.text_mask & tasks.query.batch.attention_mask
    assert torch.allclose(length[of_texts], torch.tensor(0.01, dtype=torch.float64))
    assert not length[~of_texts].any()
    assert losses(moved) > losses(tasks.query)
    back = replace(moved, batch=replace(moved.batch, shift=-moved.batch.shift))
    assert losses(back) < losses(tasks.query)


def test_a_shift_of_nothing_changes_nothing(tiny):
    warp, state, tasks = setting(tiny)
    current, _ = start(warp, state, tasks)
    zero = torch.zeros(*tasks.query.batch.input_ids.shape, 32, dtype=torch.float64)
    found = read(warp, current, replace(tasks.query, batch=replace(tasks.query.batch, shift=zero)))
    assert torch.allclose(found, read(warp, current, tasks.query), rtol=0, atol=1e-12)


def test_a_shift_is_of_the_tokens_that_it_says_whatever_the_passes(tiny):
    # In passes of a single text, without prompt, in windows: the shift goes with its tokens.
    warp, state, tasks = setting(tiny, "prefix", max_length=8, stride=2, template="{prompt:2} {text} {mask}")
    moved = moved_queries(warp, state, tasks, 0.05)
    current, _ = start(warp, state, tasks)
    together = read(warp, current, moved)
    one_by_one = Warp(replace(tiny, max_tokens=1), warp.config)
    assert torch.allclose(read(one_by_one, current, moved), together, rtol=0, atol=1e-10)
    assert not torch.allclose(read(warp, current, tasks.query), together, atol=1e-3)


def test_the_text_alone_is_never_shifted(tiny):
    warp, state, tasks = setting(tiny, read_out="text+mean")
    moved = moved_queries(warp, state, tasks, 0.05)
    current, _ = start(warp, state, tasks)
    plain, found = read(warp, current, tasks.query), read(warp, current, moved)
    assert torch.equal(plain[:, :32], found[:, :32])
    assert not torch.allclose(plain[:, 32:], found[:, 32:])


# The losses --------------------------------------------------------------------------------------------------


def test_sift_is_the_divergence_to_the_shifted_texts(tiny):
    warp, state, tasks = setting(tiny)
    found = [float_of(sift(warp, state, tasks, size)) for size in (1e-6, 0.02, 0.1)]
    assert 0 <= found[0] < 1e-9 < found[1] < found[2]


def test_sift_leaves_out_classes_that_a_task_does_not_have(tiny):
    warp, state = tiny_model(tiny, learn=True)
    episodes = [tiny_episodes(1, n_way=n_way)[0] for n_way in (2, 5)]
    both = sift(warp, state, TaskBatch.encode(episodes, warp.encoder), 0.05)
    alone = [sift(warp, state, TaskBatch.encode([episode], warp.encoder), 0.05) for episode in episodes]
    assert float_of(both) == pytest.approx(float_of(sum(alone)) / 2, rel=1e-9)


def test_the_contrastive_loss_is_that_of_its_equation():
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1)
    task, label = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0, 0])
    each = []
    for i in range(6):
        others = [a for a in range(6) if a != i and task[a] == task[i]]
        kin = [a for a in others if label[a] == label[i]]
        total = sum(float((z[i] @ z[a] / TEMPERATURE).exp()) for a in others)
        each.append(-sum(float(z[i] @ z[p]) / TEMPERATURE - torch.log(torch.tensor(total)) for p in kin) / len(kin))
    expected = (sum(each[:4]) / 4 + sum(each[4:]) / 2) / 2
    assert float(contrastive_loss(3 * z, task, label, 2)) == pytest.approx(float(expected), rel=1e-6)


def test_scal_holds_classes_apart_with_their_shifted_texts(tiny):
    warp, state, tasks = setting(tiny)
    assert float_of(scal(warp, state, tasks, 0.1)) > float_of(scal(warp, state, tasks, 1e-6)) > 0
    at_zero_shots = TaskBatch.encode(tiny_episodes(2, k_shot=0), warp.encoder)
    assert float_of(scal(warp, state, at_zero_shots, 0.1)) > 0


def test_at_one_shot_the_texts_of_scal_are_shifted_too(tiny, monkeypatch):
    warp, state = tiny_model(tiny, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=1), warp.encoder)
    seen = []

    def watched(*given):
        seen.append(shifted(*given))
        return seen[-1]

    monkeypatch.setattr(regularizers, "shifted", watched)
    assert float_of(scal(warp, state, tasks, 0.1)) > float_of(scal(warp, state, tasks, 1e-9))
    length = seen[0].batch.shift.norm(dim=-1)
    of_texts = tasks.support.batch.text_mask & tasks.support.batch.attention_mask
    assert torch.allclose(length[of_texts], torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_its_gradient_is_its_slope_with_the_shift_held(tiny, name, form, monkeypatch):
    warp, state, tasks = setting(tiny, form)
    held = {}

    def once(*given):
        return held.setdefault("texts", shifted(*given))

    monkeypatch.setattr(regularizers, "shifted", once)
    (slope,) = torch.autograd.grad(REGULARIZERS[name](warp, state, tasks, 0.05), state["prompt"])
    entry = int(slope.abs().argmax())
    ends = []
    for by in (1e-5, -1e-5):
        moved = {key: tensor.detach().clone() for key, tensor in state.items()}
        moved["prompt"].view(-1)[entry] += by
        ends.append(float_of(REGULARIZERS[name](warp, moved, tasks, 0.05)))
    assert float(slope.view(-1)[entry]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


# In training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("method", ["prototypical", "maml", "reptile"])
def test_training_lowers_it_where_it_counts_for_much(tiny, tmp_path, method, name):
    found = {}
    for weight in (1e-6, 3.0):
        warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask"))
        config = TrainingConfig(
            steps=20, meta_batch=2, lr=0.03, validate_every=20, validation_episodes=2, regularizer=name,
            regularizer_weight=weight, regularizer_size=0.1,
        )  # fmt: skip
        samplers = [EpisodeSampler(tiny_corpus(), 3, 2, 3, seed) for seed in (0, 1)]
        init = Init.start(warp, METHODS[method].inner, method=method)
        folder = tmp_path / str(weight)
        folder.mkdir()
        trainer = Trainer(init, warp, *samplers, config, folder)
        trainer.run()
        tasks = TaskBatch.encode([samplers[1][i] for i in range(4)], warp.encoder)
        found[weight] = float_of(REGULARIZERS[name](warp, trainer.iterates.state(), tasks, 0.1))
    assert found[3.0] < found[1e-6]


def test_what_is_no_regularizer_is_refused():
    with refused("regularizer is 'dropout'; it can be none, sift, scal."):
        TrainingConfig(regularizer="dropout")
    with refused("regularizer_size is 0; it must be a positive number."):
        TrainingConfig(regularizer="sift", regularizer_size=0)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_where_no_prompt_is_read_there_is_nothing_to_regularize(tiny, tmp_path, name):
    warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", read_out="text"))
    sampler, config = EpisodeSampler(tiny_corpus(), 3, 2, 3), TrainingConfig(regularizer=name)
    with refused(
        f"regularizer {name} shifts texts under the prompt, and nothing that read-out 'text' reads depends on one; add "
        "mean or mask, or leave the regularizer out."
    ):
        Trainer(Init.start(warp, NO_STEPS, method="prototypical"), warp, sampler, sampler, config, tmp_path)


def test_the_log_of_a_regularized_run_is_of_the_task_loss(tiny, tmp_path):
    warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}"))
    samplers = [EpisodeSampler(tiny_corpus(), 3, 2, 3, seed) for seed in (0, 1)]
    first = {}
    for name in ("none", "sift"):
        config = TrainingConfig(steps=1, meta_batch=2, validate_every=1, validation_episodes=1, regularizer=name)
        (tmp_path / name).mkdir()
        Trainer(Init.start(warp, NO_STEPS, method="prototypical"), warp, *samplers, config, tmp_path / name).run()
        first[name] = log_of(tmp_path / name)[0]["loss"]
    assert first["none"] == first["sift"]


# De-biased templates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_de_biased_read_out_is_without_what_the_template_gives_alone(tiny_mlm, form):
    (plain, state, tasks), (warp, _, _) = (
        setting(tiny_mlm, form, read_out="mask", similarity="dot", debias=debias) for debias in (False, True)
    )
    prompts = torch.stack([state["prompt"].detach(), 1.2 * state["prompt"].detach()])
    texts = ["set the alarm", "", "pay my bill please"]
    task = torch.tensor([0, 1, 1])
    found, with_bias = (one.features(prompts, None, one.encoder(texts), task) for one in (warp, plain))
    bias = plain.features(prompts, None, plain.encoder(["", ""]), torch.arange(2))
    assert torch.allclose(found, with_bias - bias[task], rtol=0, atol=1e-10)
    assert not found[1].abs().max() > 1e-10
    assert weights_of(state) is None


def test_there_is_nothing_to_de_bias_without_a_mask():
    with refused("debias is of what [MASK] gives, and read_out 'text+mean' has no mask; drop it."):
        WarpConfig(read_out="text+mean", debias=True)
