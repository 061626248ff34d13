"""Runs by either engine: the same init, one continued by the other, and what an engine does not have."""

import pytest
import torch
from running import refused
from tiny import tiny_corpus

from metawarp import InnerRates, TrainingConfig, WarpClassifier, WarpConfig, evaluate, train
from metawarp.adaptation.inner_loop import RATES
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import RunFolder

SETTINGS = {"n_way": 2, "k_shot": 2, "n_query": 2, "warp": WarpConfig(template="{prompt:2} {text} {mask}")}
TWO = TrainingConfig(steps=2, meta_batch=2, validate_every=1, validation_episodes=2, checkpoint_every=1)


def learned(tiny, folder, training=TWO, **settings):
    """How far each tensor has come from its start at the last step, whatever validation thinks of it."""
    train(tiny_corpus(), str(folder), backbone=tiny, training=training, **{**SETTINGS, **settings})
    offset = RunFolder(folder).load(torch.device("cpu"))[0]["offset"]
    assert offset["prompt"].norm() > 1e-3
    return offset


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("method", ["maml", "fomaml", "anil", "prototypical"])
@pytest.mark.parametrize("rates", [InnerRates(), InnerRates(learned=False)], ids=["learned rates", "fixed rates"])
def test_both_engines_learn_the_same(tiny, tmp_path, method, rates):
    ours = learned(tiny, tmp_path / "ours", method=method, inner_lr=rates)
    theirs = learned(tiny, tmp_path / "theirs", method=method, inner_lr=rates, engine="learn2learn")
    assert_same(ours, theirs)
    assert all(tensor.any() == rates.learned for name, tensor in ours.items() if name.startswith(RATES))


def test_a_run_of_one_engine_is_continued_by_the_other(tiny, tmp_path, monkeypatch):
    expected = learned(tiny, tmp_path / "whole", method="maml")

    advance = Trainer._advance

    def once(self):
        if self.step == 1:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(Trainer, "_advance", once)
    with pytest.raises(KeyboardInterrupt):
        learned(tiny, tmp_path / "halves", method="maml")
    monkeypatch.undo()
    found = learned(tiny, tmp_path / "halves", method="maml", engine="learn2learn", resume=True)
    assert_same(expected, found)


@pytest.mark.parametrize("mode", ["unroll", "recompute"])
def test_both_ways_to_second_order_learn_the_same_init(tiny, tmp_path, mode):
    one = learned(tiny, tmp_path / "auto", method="maml")
    training = TrainingConfig(**{**vars(TWO), "second_order": mode})
    other = learned(tiny, tmp_path / mode, method="maml", training=training)
    assert_same(one, other)


@pytest.mark.parametrize("method", ["reptile", "multitask"])
def test_what_learn2learn_does_not_have_is_refused(tiny, tmp_path, method):
    with refused(f"engine 'learn2learn' has no method {method!r}; it is for maml, fomaml, anil, prototypical."):
        learned(tiny, tmp_path, method=method, engine="learn2learn")


def test_unknown_engines_and_orders_that_a_method_does_not_have_are_refused(tiny, tmp_path):
    with refused("engine 'higher' is not known; known: metawarp, learn2learn."):
        learned(tiny, tmp_path, engine="higher")
    with refused("method 'fomaml' has no second order; leave out --training.second_order."):
        learned(tiny, tmp_path, method="fomaml", training=TrainingConfig(second_order="unroll"))


def test_a_backbone_of_half_width_learns_in_full(made, tmp_path):
    arguments = {"backbone": str(made / "backbone"), "dtype": "bfloat16", **SETTINGS}
    init = train(str(made / "tiny.jsonl"), str(tmp_path / "run"), training=TWO, **arguments)
    assert init.training["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in init.tensors.values()} == {torch.float32}
    results = evaluate(
        init, str(made / "tiny.jsonl"), dtype="bfloat16", split="all", n_way=2, k_shot=1, n_query=2, episodes=2,
        baselines="none",
    )  # fmt: skip
    assert results["protocol"]["dtype"] == "bfloat16"
    model = WarpClassifier(init, dtype="bfloat16").fit(["play music", "the rain"], ["music", "rain"])
    assert model.task_.warp.backbone.dtype == torch.bfloat16
    assert model.predict_proba(["music"]).sum() == pytest.approx(1)
    arguments["dtype"] = "float32"
    with pytest.raises(ValueError, match="has other settings: dtype; resume it with the settings that it was started"):
        train(str(made / "tiny.jsonl"), str(tmp_path / "run"), training=TWO, resume=True, **arguments)
