"""Reparameterization: it starts where training would without, gradients run through it, and nothing is left of it."""

import numpy as np
import pytest
import torch
from running import Killed, log_of, refused
from tiny import tiny_corpus

from episodes import EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.reparameterization import NETWORKS, OWN, Reparameterization

FORMS = ["input", "deep", "prefix", "pool:2", "lora:2"]


def trainer(
    tiny, folder, name, method="prototypical", steps=30, form="input", template="{prompt:2} {text} {mask}", **config
):
    folder.mkdir(exist_ok=True)
    warp = Warp(tiny, WarpConfig(template=template, read_out="mean+mask", form=form))
    settings = TrainingConfig(
        steps=steps, meta_batch=2, lr=0.03, validate_every=10, validation_episodes=2, checkpoint_every=5,
        reparameterization=name, **config,
    )  # fmt: skip
    samplers = [EpisodeSampler(tiny_corpus(), 3, 2, 3, seed) for seed in (0, 1)]
    init = Init.start(warp, METHODS[method].inner, method=method)
    return Trainer(init, warp, *samplers, settings, folder, classes=tiny_corpus().class_names)


def form_of(tiny, form):
    """A form, and a prompt of its shape."""
    found = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", form=form)).form
    return found, torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_starts_at_the_prompt_itself(tiny, name, form):
    of, prompt = form_of(tiny, form)
    found = Reparameterization(name, of, prompt, 0)
    state = {"prompt": prompt, "log_scale": torch.zeros(()), **found.start()}
    folded = found.folded(state)
    assert torch.equal(folded["prompt"], prompt)
    assert folded.keys() == {"prompt", "log_scale"}
    assert any(name.startswith(OWN) for name in state)


def test_an_lstm_reads_each_place_as_a_sequence_of_its_own(tiny):
    of, prompt = form_of(tiny, "prefix")
    found = Reparameterization("lstm", of, prompt, 0)
    state = {"prompt": prompt, **{key: tensor + 0.1 for key, tensor in found.start().items()}}
    other = {**state, "prompt": prompt.clone()}
    other["prompt"][1, 0, 0] += 1.0  # the first key of layer 1
    changed = (found.folded(state)["prompt"] != found.folded(other)["prompt"]).flatten(2).any(-1)
    assert changed.nonzero().tolist() == [[1, 0]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_pulled_back_through_it(tiny, name, form):
    of, prompt = form_of(tiny, form)
    shape = prompt.shape
    found = Reparameterization(name, of, prompt, 0)
    generator = torch.Generator().manual_seed(1)
    state = {
        key: (tensor + 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for key, tensor in {"prompt": prompt, **found.start()}.items()
    }
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    loss = ((found.folded(state)["prompt"] - target) ** 2).sum()
    expected = dict(zip(state, torch.autograd.grad(loss, list(state.values()), retain_graph=True), strict=True))
    at_prompt = {"prompt": 2 * (found.folded(state)["prompt"] - target).detach(), "log_scale": torch.ones(())}
    pulled = found.pulled_back(at_prompt, state)
    assert pulled.keys() == {*expected, "log_scale"}
    assert all(torch.allclose(pulled[key], expected[key]) for key in expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_is_trained_through_it_and_nothing_of_it_is_saved(tiny, tmp_path, name, method, form):
    run = trainer(tiny, tmp_path / "run", name, method, steps=4, form=form)
    learned = run.iterates
    init = run.run()
    assert not any(tensor.startswith(OWN) for tensor in init.tensors)
    moved = {key for key, offset in learned.offset.items() if offset.any()}
    parts = [part for part in run.warp.form.soft_parts if part in run.warp.form.shapes]
    assert {"prompt", *(f"{OWN}{part}.{layer}.weight" for part in parts for layer in ("out", "hidden"))} <= moved
    init.save(tmp_path / "init")
    assert Init.load(tmp_path / "init").bind(tiny).form.shape == tuple(init.tensors["prompt"].shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_falls(tiny, tmp_path, name):
    trainer(tiny, tmp_path / "run", name, steps=40).run()
    losses = [entry["loss"] for entry in log_of(tmp_path / "run")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_a_killed_run_goes_on_to_the_same_init(tiny, tmp_path):
    whole = trainer(tiny, tmp_path / "whole", "mlp", steps=20).run()
    run = trainer(tiny, tmp_path / "killed", "mlp", steps=20)
    real, run.sampler = run.sampler, Killed(run.sampler, 24)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    run = trainer(tiny, tmp_path / "killed", "mlp", steps=20)
    run.sampler = real
    resumed = run.run(resume=True)
    assert all(torch.allclose(tensor, resumed.tensors[name]) for name, tensor in whole.tensors.items())


def test_what_is_no_network_or_no_sequence_of_vectors_is_refused(tiny, tmp_path):
    with refused("reparameterization is 'gru'; it can be none, mlp, lstm."):
        TrainingConfig(reparameterization="gru")
    with refused("lr is 0, and a reparameterization is trained by it; raise it, or leave that out."):
        TrainingConfig(reparameterization="mlp", lr=0)
    nothing = "a reparameterization is of soft tokens, and this form or template has none; leave it out."
    for form in ("input", "lora:2"):
        with refused(nothing):
            trainer(tiny, tmp_path / "run", "lstm", form=form, template="{text} {mask}")
