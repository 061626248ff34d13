"""Both engines train the same init, one can continue a run of the other, and impossible combinations are refused."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from marks import slow_except
from running import refused
from tiny import tiny_corpus
from torch.testing import assert_close
from trainings import FEW, SMALL_TRAINING, killed, trainer_of

from metawarp import TrainingConfig, WarpClassifier, evaluate, train
from metawarp.parameters import LEARNING_RATES, tensors_of
from metawarp.training.run_folder import RunFolder

TWO = replace(FEW, steps=2, checkpoint_every=1)
assert_same = partial(assert_close, rtol=1e-5, atol=1e-7)


def learned(tiny, folder, training=TWO, *, resume=False, **settings):
    """How far each tensor is from its start after the last step, whatever its validation accuracy."""
    trainer_of(tiny, folder, training, **settings).run(resume=resume)
    offset = RunFolder(folder).load(torch.device("cpu"))[0]["offset"]
    assert offset["adapter"].norm() > 1e-3
    return offset


@pytest.mark.parametrize("method", slow_except("maml", ["maml", "fomaml", "anil", "prototypical"]))
@pytest.mark.parametrize("learn_rates", [True, False])
def test_both_engines_learn_the_same(tiny, tmp_path, method, learn_rates):
    one, other = (
        learned(tiny, tmp_path / engine, method=method, learn_inner_rates=learn_rates, engine=engine)
        for engine in ("metawarp", "learn2learn")
    )
    assert_same(one, other)
    assert all(one[name].any() == learn_rates for name in LEARNING_RATES.values() if name in one)


def test_a_run_of_one_engine_is_continued_by_the_other(tiny, tmp_path):
    expected = learned(tiny, tmp_path / "whole", method="maml")
    killed(trainer_of(tiny, tmp_path / "halves", TWO, method="maml", killed_before=3))
    found = learned(tiny, tmp_path / "halves", method="maml", engine="learn2learn", resume=True)
    assert_same(found, expected)


def test_all_modes_of_second_order_learn_the_same_init(tiny, tmp_path):
    expected = learned(tiny, tmp_path / "auto", method="maml")
    for mode in ("unroll", "recompute"):
        found = learned(tiny, tmp_path / mode, replace(TWO, second_order=mode), method="maml")
        assert_same(found, expected)


METHODS_OF_LEARN2LEARN = ["maml", "fomaml", "anil", "prototypical"]


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"method": "reptile", "engine": "learn2learn"}, ["method='reptile'", *METHODS_OF_LEARN2LEARN]),
        ({"method": "multitask", "engine": "learn2learn"}, ["method='multitask'", *METHODS_OF_LEARN2LEARN]),
        ({"engine": "higher"}, ["engine='higher'", "metawarp", "learn2learn"]),
        (
            {"method": "fomaml", "training": TrainingConfig(second_order="unroll")},
            ["second_order='unroll'", "method='fomaml'"],
        ),
    ],
)
def test_an_engine_or_a_mode_that_the_method_does_not_support_is_refused(tiny, tmp_path, settings, facts):
    with refused(*facts):
        train(tiny_corpus(), str(tmp_path), backbone=tiny, **{**SMALL_TRAINING, **settings})


def test_a_backbone_in_half_precision_learns_in_full_precision(made, tmp_path):
    corpus, run = str(made / "tiny.jsonl"), str(tmp_path / "run")
    arguments: dict[str, Any] = {"backbone": str(made / "backbone"), **SMALL_TRAINING}
    init = train(corpus, run, dtype="bfloat16", **arguments)
    assert init.training["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in tensors_of(init.parameters).values()} == {torch.float32}
    results = evaluate(init, corpus, dtype="bfloat16", split="all", baselines=["none"], n_way=2, n_query=2, episodes=2)
    assert results["protocol"]["dtype"] == "bfloat16"
    model = WarpClassifier(init, dtype="bfloat16").fit(["play music", "the rain"], ["music", "rain"])
    assert model.task_.warp.backbone.dtype == torch.bfloat16
    assert model.predict_proba(["music"]).sum() == pytest.approx(1)
    with refused("other settings: dtype"):
        train(corpus, run, dtype="float32", resume=True, **arguments)
