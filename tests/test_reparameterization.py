"""Reparameterization: it starts at the adapter itself, its gradients are exact, and it is never saved."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from marks import slow, slow_except
from running import refused
from tiny import ADAPTER_SIZES
from torch.testing import assert_close
from trainings import FEW, MODEL, killed, loss_falls, tensors, trainer_of

from metawarp import Init, Warp
from metawarp.adapters.adapter import adapter_shape
from metawarp.meta_learning.table import METHODS
from metawarp.training.config import TrainingConfig
from metawarp.training.reparameterization import NETWORKS, PREFIX, Reparameterization

WITH_SOFT_TOKENS = [name for name in ADAPTER_SIZES if name not in ("biases", "weights")]
EACH_ADAPTER = pytest.mark.parametrize("adapter", WITH_SOFT_TOKENS)
EACH_NETWORK = pytest.mark.parametrize("network", NETWORKS)


def model_of(adapter, **settings):
    return replace(MODEL, read_out="mean+mask", adapter=adapter, adapter_size=ADAPTER_SIZES[adapter], **settings)


def trainer(tiny, folder, network, *, adapter="prompt", steps=2, lr=0.03, **settings: Any):
    config = replace(FEW, steps=steps, lr=lr, validate_every=steps, reparameterization=network)
    return trainer_of(tiny, folder, config, model=model_of(adapter), **{"method": "prototypical", **settings})


def reparameterized(tiny, network, adapter):
    """The network of an adapter, and values of the adapter."""
    of = Warp(tiny, model_of(adapter)).adapter
    values = torch.randn(adapter_shape(of), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Reparameterization(network, of, values, 0), values


@EACH_ADAPTER
@EACH_NETWORK
def test_a_reparameterization_starts_at_the_adapter_itself(tiny, network, adapter):
    found, values = reparameterized(tiny, network, adapter)
    start = found.start()
    assert any(name.startswith(PREFIX) for name in start)
    folded = found.folded({"adapter": values, "log_scale": torch.zeros(()), **start})
    assert folded.keys() == {"adapter", "log_scale"}
    assert torch.equal(folded["adapter"], values)


def test_an_lstm_reads_the_tokens_of_each_layer_as_a_sequence(tiny):
    found, values = reparameterized(tiny, "lstm", "prefix")
    start = {"adapter": values, **{key: tensor + 0.1 for key, tensor in found.start().items()}}
    other = {**start, "adapter": values.clone()}
    other["adapter"].view(3, 2, 2, -1)[1, 0, 0] += 1.0  # the first key of layer 1
    changed = (found.folded(start)["adapter"] != found.folded(other)["adapter"]).view(3, 2, -1).any(-1)
    assert changed.nonzero().tolist() == [[1, 0]]


@EACH_ADAPTER
@EACH_NETWORK
def test_gradients_pass_through_the_networks_exactly(tiny, network, adapter):
    found, values = reparameterized(tiny, network, adapter)
    generator = torch.Generator().manual_seed(1)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    learned = {"adapter": values, **found.start()}
    learned = {name: (tensor + 0.1 * noise(tensor)).requires_grad_() for name, tensor in learned.items()}
    direction = noise(values)
    outer = (found.folded(learned)["adapter"] * direction).sum()
    expected = dict(zip(learned, torch.autograd.grad(outer, list(learned.values())), strict=True))
    unfolded = found.unfolded_gradients({"adapter": direction, "log_scale": torch.ones(())}, learned)
    assert_close(unfolded, {**expected, "log_scale": torch.ones(())})


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("multitask", "prompt"),
        *(slow(method, "prompt") for method in sorted(set(METHODS) - {"multitask"})),
        *(slow("prototypical", adapter) for adapter in WITH_SOFT_TOKENS if adapter != "prompt"),
    ],
)
@EACH_NETWORK
def test_every_method_and_adapter_is_trained_through_the_networks_which_are_not_saved(
    tiny, tmp_path, network, method, adapter
):
    run = trainer(tiny, tmp_path / "run", network, method=method, adapter=adapter)
    init = run.run()
    assert not any(name.startswith(PREFIX) for name in tensors(init))
    moved = {name for name, offset in run.optimizer.offset.items() if offset.any()}
    parts = [part for part in run.warp.adapter.soft_token_parts if part in run.warp.adapter.shapes]
    assert {"adapter", *(f"{PREFIX}{part}.{layer}.weight" for part in parts for layer in ("out", "hidden"))} <= moved
    init.save(tmp_path / "init")
    assert adapter_shape(Init.load(tmp_path / "init").bind(tiny).adapter) == tuple(init.parameters.adapter.shape)


@pytest.mark.parametrize("network", slow_except("mlp", NETWORKS))
def test_the_loss_of_a_reparameterized_training_falls(tiny, tmp_path, network):
    trainer(tiny, tmp_path, network, steps=30, lr=0.1).run()
    assert loss_falls(tmp_path)


def test_a_killed_run_continues_to_the_same_init(tiny, tmp_path):
    whole = trainer(tiny, tmp_path / "whole", "mlp", steps=8).run()
    killed(trainer(tiny, tmp_path / "killed", "mlp", steps=8, killed_before=12))
    resumed = trainer(tiny, tmp_path / "killed", "mlp", steps=8).run(resume=True)
    assert_close(tensors(resumed), tensors(whole))


def test_unusable_settings_are_refused(tiny, tmp_path):
    with refused("reparameterization='gru'", "none", "mlp", "lstm"):
        TrainingConfig(reparameterization="gru")  # pyright: ignore[reportArgumentType]
    with refused("lr=0", "reparameterization='mlp'"):
        TrainingConfig(reparameterization="mlp", lr=0)
    for adapter in ("prompt", "lora"):
        model = model_of(adapter, template="{text} {mask}")
        with refused("reparameterization='lstm'", "soft tokens"):
            trainer_of(tiny, tmp_path, replace(FEW, reparameterization="lstm"), method="prototypical", model=model)
