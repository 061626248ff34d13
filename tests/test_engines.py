"""Runs by either engine: the same init, one continued by the other, and what an engine does not support."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import refused
from tiny import tiny_corpus

from metawarp import InnerLearningRates, TrainingConfig, WarpClassifier, WarpConfig, evaluate, train
from metawarp.meta_learning import engine as engines
from metawarp.parameters import LEARNING_RATES, tensors_of
from metawarp.training.run_folder import RunFolder

SETTINGS = {"n_way": 2, "k_shot": 2, "n_query": 2, "model": WarpConfig(template="{prompt:2} {text} {mask}")}
TWO = TrainingConfig(steps=2, meta_batch_size=2, validate_every=1, validation_episodes=2, checkpoint_every=1)


def learned(tiny, folder, training=TWO, **settings):
    """How far each tensor is from its start after the last step, whatever its validation accuracy."""
    train(tiny_corpus(), str(folder), backbone=tiny, training=training, **{**SETTINGS, **settings})
    offset = RunFolder(folder).load(torch.device("cpu"))[0]["offset"]
    assert offset["adapter"].norm() > 1e-3
    return offset


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("method", ["maml", "fomaml", "anil", "prototypical"])
@pytest.mark.parametrize("learn_rates", [True, False])
def test_both_engines_learn_the_same(tiny, tmp_path, method, learn_rates):
    rates = InnerLearningRates(learned=learn_rates)
    ours = learned(tiny, tmp_path / "ours", method=method, inner_lr=rates)
    theirs = learned(tiny, tmp_path / "theirs", method=method, inner_lr=rates, engine="learn2learn")
    assert_same(ours, theirs)
    assert all(ours[name].any() == learn_rates for name in LEARNING_RATES.values() if name in ours)


class Interrupted:
    """An engine that is interrupted at its second step."""

    processes_tasks_together = True
    steps = 0

    def require(self, method):
        pass

    def meta_gradient(self, method, init, batch):
        self.steps += 1
        if self.steps == 2:
            raise KeyboardInterrupt
        return method.meta_gradient(init, batch)


def test_a_run_of_one_engine_is_continued_by_the_other(tiny, tmp_path, monkeypatch):
    expected = learned(tiny, tmp_path / "whole", method="maml")
    monkeypatch.setitem(engines.ENGINES, "metawarp", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        learned(tiny, tmp_path / "halves", method="maml")
    monkeypatch.undo()
    assert_same(expected, learned(tiny, tmp_path / "halves", method="maml", engine="learn2learn", resume=True))


@pytest.mark.parametrize("second_order", ["unroll", "recompute"])
def test_both_ways_of_second_order_learn_the_same_init(tiny, tmp_path, second_order):
    one = learned(tiny, tmp_path / "auto", method="maml")
    training = replace(TWO, second_order=second_order)
    assert_same(one, learned(tiny, tmp_path / second_order, method="maml", training=training))


def test_what_an_engine_or_a_method_does_not_support_is_refused(tiny, tmp_path):
    for method in ("reptile", "multitask"):
        with refused("engine='learn2learn'", f"method={method!r}", "maml", "fomaml", "anil", "prototypical"):
            learned(tiny, tmp_path, method=method, engine="learn2learn")
    with refused("engine='higher'", "metawarp", "learn2learn"):
        learned(tiny, tmp_path, engine="higher")
    with refused("second_order='unroll'", "method='fomaml'"):
        learned(tiny, tmp_path, method="fomaml", training=TrainingConfig(second_order="unroll"))


def test_a_backbone_in_half_precision_learns_in_full_precision(made, tmp_path):
    corpus, run = str(made / "tiny.jsonl"), str(tmp_path / "run")
    arguments = {"backbone": str(made / "backbone"), "dtype": "bfloat16", **SETTINGS}
    init = train(corpus, run, training=TWO, **arguments)
    assert init.training["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in tensors_of(init.parameters).values()} == {torch.float32}
    sizes = {"n_way": 2, "k_shot": 1, "n_query": 2, "episodes": 2}
    results = evaluate(init, corpus, dtype="bfloat16", split="all", baselines=["none"], **sizes)
    assert results["protocol"]["dtype"] == "bfloat16"
    model = WarpClassifier(init, dtype="bfloat16").fit(["play music", "the rain"], ["music", "rain"])
    assert model.task_.warp.backbone.dtype == torch.bfloat16
    assert model.predict_proba(["music"]).sum() == pytest.approx(1)
    with refused("other settings: dtype"):
        train(corpus, run, training=TWO, resume=True, **{**arguments, "dtype": "float32"})
    assert Path(run, "init.safetensors").exists()
