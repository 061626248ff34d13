"""Reparameterization: it starts as training without it, is differentiated exactly, and is never saved."""

import numpy as np
import pytest
import torch
from running import Killed, refused
from tiny import tiny_corpus

from episodes import EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adapters.adapter import adapter_shape
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.reparameterization import NETWORKS, PREFIX, Reparameterization
from metawarp.training.run_folder import read_log

ADAPTERS = [("prompt", None), ("deep_prompt", None), ("prefix", None), ("prompt_pool", 2), ("lora", 2)]
EACH = pytest.mark.parametrize(("adapter", "size"), ADAPTERS)


TEMPLATE = "{prompt:2} {text} {mask}"


def trainer(
    tiny, folder, name, method="prototypical", steps=30, adapter="prompt", size=None, template=TEMPLATE, **config
):
    folder.mkdir(exist_ok=True)
    warp = Warp(tiny, WarpConfig(template=template, read_out="mean+mask", adapter=adapter, adapter_size=size))
    settings = TrainingConfig(
        steps=steps, meta_batch_size=2, lr=0.03, validate_every=10, validation_episodes=2, checkpoint_every=5,
        reparameterization=name, **config,
    )  # fmt: skip
    samplers = [EpisodeSampler(tiny_corpus(), 3, 2, 3, seed) for seed in (0, 1)]
    init = Init.start(warp, METHODS[method].inner, method=method)
    return Trainer(init, method, warp, *samplers, settings, folder, corpus_classes=tiny_corpus().class_names)


def adapter_of(tiny, adapter, size=None):
    """An adapter, and values of its shape."""
    found = Warp(tiny, WarpConfig(template=TEMPLATE, adapter=adapter, adapter_size=size)).adapter
    return found, torch.randn(adapter_shape(found), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@EACH
@pytest.mark.parametrize("name", NETWORKS)
def test_it_starts_at_the_adapter_itself(tiny, name, adapter, size):
    of, values = adapter_of(tiny, adapter, size)
    found = Reparameterization(name, of, values, 0)
    tensors = {"adapter": values, "log_scale": torch.zeros(()), **found.start()}
    folded = found.folded(tensors)
    assert torch.equal(folded["adapter"], values)
    assert folded.keys() == {"adapter", "log_scale"}
    assert any(name.startswith(PREFIX) for name in tensors)


def test_an_lstm_reads_each_place_as_a_sequence_of_its_own(tiny):
    of, values = adapter_of(tiny, "prefix")
    found = Reparameterization("lstm", of, values, 0)
    tensors = {"adapter": values, **{key: tensor + 0.1 for key, tensor in found.start().items()}}
    other = {**tensors, "adapter": values.clone()}
    other["adapter"].view(3, 2, 2, -1)[1, 0, 0] += 1.0  # the first key of layer 1
    changed = (found.folded(tensors)["adapter"] != found.folded(other)["adapter"]).view(3, 2, -1).any(-1)
    assert changed.nonzero().tolist() == [[1, 0]]


@EACH
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_pass_through_it_exactly(tiny, name, adapter, size):
    of, values = adapter_of(tiny, adapter, size)
    found = Reparameterization(name, of, values, 0)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        key: (tensor + 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for key, tensor in {"adapter": values, **found.start()}.items()
    }
    target = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    loss = ((found.folded(tensors)["adapter"] - target) ** 2).sum()
    expected = dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))
    slope = 2 * (found.folded(tensors)["adapter"] - target).detach()
    unfolded = found.unfolded_gradients({"adapter": slope, "log_scale": torch.ones(())}, tensors)
    assert unfolded.keys() == {*expected, "log_scale"}
    assert all(torch.allclose(unfolded[key], expected[key]) for key in expected)


TRAINED = [(method, "prompt", None) for method in METHODS]
TRAINED += [("prototypical", *adapter) for adapter in ADAPTERS[1:]]


@pytest.mark.parametrize(("method", "adapter", "size"), TRAINED)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_and_adapter_is_trained_through_it_and_it_is_not_saved(
    tiny, tmp_path, name, method, adapter, size
):
    run = trainer(tiny, tmp_path / "run", name, method, steps=2, adapter=adapter, size=size)
    init = run.run()
    assert not any(tensor.startswith(PREFIX) for tensor in tensors_of(init.parameters))
    moved = {key for key, offset in run.optimizer.offset.items() if offset.any()}
    parts = [part for part in run.warp.adapter.soft_token_parts if part in run.warp.adapter.shapes]
    assert {"adapter", *(f"{PREFIX}{part}.{layer}.weight" for part in parts for layer in ("out", "hidden"))} <= moved
    init.save(tmp_path / "init")
    assert adapter_shape(Init.load(tmp_path / "init").bind(tiny).adapter) == tuple(init.parameters.adapter.shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_falls(tiny, tmp_path, name):
    trainer(tiny, tmp_path / "run", name, steps=40).run()
    losses = [entry["loss"] for entry in read_log(tmp_path / "run")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_a_killed_run_continues_to_the_same_init(tiny, tmp_path):
    whole = trainer(tiny, tmp_path / "whole", "mlp", steps=20).run()
    run = trainer(tiny, tmp_path / "killed", "mlp", steps=20)
    run.sampler = Killed(run.sampler, 24)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    resumed = tensors_of(trainer(tiny, tmp_path / "killed", "mlp", steps=20).run(resume=True).parameters)
    assert all(torch.allclose(tensor, resumed[name]) for name, tensor in tensors_of(whole.parameters).items())


def test_impossible_settings_are_refused(tiny, tmp_path):
    with refused("reparameterization='gru'", "none", "mlp", "lstm"):
        TrainingConfig(reparameterization="gru")
    with refused("lr=0", "reparameterization='mlp'"):
        TrainingConfig(reparameterization="mlp", lr=0)
    for adapter in ("prompt", "lora"):
        with refused("reparameterization='lstm'", "soft tokens"):
            trainer(tiny, tmp_path / "run", "lstm", adapter=adapter, template="{text} {mask}")
