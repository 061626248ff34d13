"""The outer loop: what each method learns, which init is kept, and when a training stops."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from marks import slow
from running import refused
from tiny import tiny_backbone
from torch.testing import assert_close
from trainings import FEW, MODEL, SMALL_TRAINING, equal, loss_falls, tensors, trainer_of

from episodes import Episode
from metawarp import Init, WarpClassifier, evaluate, train
from metawarp.config import InnerLearningRates
from metawarp.errors import DivergenceError
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import score
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.training.config import TrainingConfig
from metawarp.training.run_folder import RunFolder, read_log
from metawarp.verbalizers.soft_labels import SOFT_LABELS


class OneEasyEpisode:
    """A sampler of one episode: two classes that cannot be mistaken."""

    def __getitem__(self, i: int) -> Episode:
        texts = ("play some music please", "rain and cold weather today")
        return Episode.from_texts(("music", "rain"), texts, (0, 1), texts, (0, 1))


# Learning


@pytest.mark.parametrize("method", [slow("prototypical"), slow("fomaml"), "multitask"])
def test_the_loss_falls(tiny, tmp_path, method):
    config = TrainingConfig(steps=24, meta_batch_size=2, lr=0.1, validate_every=24, validation_episodes=1)
    trainer_of(tiny, tmp_path, config, method=method).run()
    assert loss_falls(tmp_path)


@pytest.mark.parametrize("method", ["reptile", "multitask"])
def test_a_method_that_learns_only_the_adapter_is_refused_if_that_is_fixed(tiny, tmp_path, method):
    with refused("lr=0", f"method={method!r}"):
        trainer_of(tiny, tmp_path, replace(FEW, lr=0), method=method)


@pytest.mark.parametrize("method", ["prototypical", "anil", "maml"])
def test_with_lr_0_the_adapter_stays_while_the_rest_is_learned(tiny, tmp_path, method):
    trainer = trainer_of(tiny, tmp_path, replace(FEW, lr=0, scalar_lr=0.1), method=method)
    trainer.run()
    assert not trainer.optimizer.offset["adapter"].any()
    assert trainer.optimizer.offset["log_scale"].any()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_saves_loads_and_is_evaluated(made, tmp_path, method: MethodName):
    corpus, backbone, output = (str(path) for path in (made / "tiny.jsonl", made / "backbone", tmp_path))
    settings = {**SMALL_TRAINING, "training": replace(FEW, steps=2, lr=0.1)}
    trained, loaded = train(corpus, output, backbone=backbone, method=method, **settings), Init.load(output)
    assert equal(tensors(loaded), tensors(trained))
    assert (loaded.method, loaded.inner, loaded.training["steps_run"]) == (method, METHODS[method].inner, 2)
    assert loaded.fingerprint == trained.fingerprint != ""
    groups, _ = RunFolder(tmp_path).load(torch.device("cpu"))
    moved = {name for name, offset in groups["offset"].items() if offset.any()}
    assert "adapter" in moved
    assert ("corpus_class_embeddings" in moved) == (method == "multitask")
    if method in ("maml", "fomaml", "anil"):
        assert {"log_scale", "log_strength", "log_name_count", "read_out_logits", "log_class_embedding_lr"} <= moved
    splits = str(tmp_path / "splits.json")
    found = evaluate(output, corpus, splits=splits, n_way=2, n_query=2, episodes=2, baselines=["none"])
    assert len(found["methods"]["metawarp"]["per_episode"]) == 2
    model = WarpClassifier(output).fit(["play the music", "rain today"], ["music", "rain"])
    assert set(model.predict(["some music"])) <= {"music", "rain"}


def test_a_training_starts_from_another_init(made, tmp_path):
    where = {"corpus": str(made / "tiny.jsonl"), "backbone": str(made / "backbone")}
    settings = {**where, **SMALL_TRAINING, "training": replace(FEW, steps=1, lr=0.1)}
    first = train(**settings, output=str(tmp_path / "first"))
    again = {**settings, "training": replace(FEW, steps=1, lr=1e-9, scalar_lr=1e-9)}
    second = train(**again, output=str(tmp_path / "second"), start=tmp_path / "first", method="maml", inner_steps=2)
    assert_close(second.parameters.adapter, first.parameters.adapter, rtol=0, atol=1e-6)
    assert second.training["start"] == first.fingerprint and second.inner.inner_steps == 2
    longer = replace(MODEL, template="{prompt:7} {text}", read_out="pooled")
    with refused("adapter of the start has", "use the model settings of the start"):
        train(**{**settings, "model": longer}, output=str(tmp_path / "third"), start=first)
    other = tiny_backbone(tmp_path / "other", seed=3, dtype="float32")
    with refused("The start was trained on backbone", "choose another start"):
        train(**{**settings, "backbone": other}, output=str(tmp_path / "fourth"), start=first)


def test_weight_decay_pulls_toward_the_start_and_not_toward_zero(tiny, tmp_path):
    distances = []
    for decay in (0.0, 30.0):
        config = replace(FEW, lr=0.02, weight_decay=decay)
        trainer = trainer_of(tiny, tmp_path, config, method="prototypical")
        trainer.run()
        start, end = (tensors["adapter"] for tensors in (trainer.optimizer.start, trainer.optimizer.tensors()))
        distances.append(float((end - start).norm().detach()))
        assert end.norm() > 0.9 * start.norm()
    assert distances[0] > 1.5 * distances[1] > 0


def test_training_changes_neither_the_backbone_nor_the_given_init(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path, method="maml")
    weights, start = (
        {name: tensor.clone() for name, tensor in some.items()}
        for some in (tiny.model.state_dict(), tensors(trainer.init))
    )
    trained = trainer.run()
    assert equal(weights, tiny.model.state_dict())
    assert equal(start, tensors(trainer.init))
    assert {tensor.dtype for tensor in tensors(trained).values()} == {torch.float32}


def test_the_multi_step_loss_changes_the_learned_adapter(tiny, tmp_path):
    plain = trainer_of(tiny, tmp_path, FEW, method="maml")
    multi = trainer_of(tiny, tmp_path, replace(FEW, query_loss="multi_step"), method="maml")
    for trainer in (plain, multi):
        trainer.run()
    assert not plain.optimizer.offset["adapter"].equal(multi.optimizer.offset["adapter"])


# Validation, and the end of a training


def test_the_log_has_one_line_per_step(tiny, tmp_path):
    trainer_of(tiny, tmp_path, replace(FEW, steps=5)).run()
    entries = read_log(tmp_path)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(entry["loss"]) and 0 <= entry["accuracy"] <= 1 for entry in entries)
    assert [entry["step"] for entry in entries if "validation_accuracy" in entry] == [2, 4, 5]


def test_the_best_init_is_kept_and_not_the_last(tiny, tmp_path):
    config = TrainingConfig(
        steps=16, meta_batch_size=1, lr=0.6, max_grad_norm=100.0, validate_every=1, validation_episodes=6, patience=100
    )
    model = replace(MODEL, read_out="mean+mask", verbalizer="mix")
    trainer = trainer_of(tiny, tmp_path, config, method="multitask", model=model)
    trained = trainer.run()
    accuracies = [entry["validation_accuracy"] for entry in read_log(tmp_path)]
    best, step = trained.training["validation_accuracy"], trained.training["best_step"]
    assert accuracies[-1] < best - 0.01, "the last init must be worse for this test to show anything"
    assert best == pytest.approx(max(trainer.best_accuracy, *accuracies), abs=1e-6)
    assert step in (0, 1 + accuracies.index(max(accuracies)))
    predict = metawarp_predictor(trainer.warp, trained.on(tiny), trained.inner)
    assert score(predict, trainer.validation, 6).accuracy.mean() == pytest.approx(best, abs=1e-6)


def test_the_mean_of_the_steps_since_the_last_validation_is_kept(tiny, tmp_path):
    states = []
    config = replace(FEW, steps=3, validate_every=3, validation_episodes=1)
    trainer = trainer_of(tiny, tmp_path, config, validation=OneEasyEpisode())
    trainer.best_accuracy = 0.0  # so that the start is not validated, and the mean is the best

    def report(entry, step):
        states.append({name: tensor.detach().clone() for name, tensor in trainer.optimizer.tensors().items()})

    trained = trainer.run(report=report)
    assert trained.training["best_step"] == 3
    for name, tensor in tensors(trained).items():
        assert_close(tensor, torch.stack([state[name] for state in states]).mean(0).float())
        if name not in SOFT_LABELS:  # they have no effect without unlabelled texts
            assert not torch.equal(tensor, states[-1][name].float())


def test_a_start_that_is_never_beaten_is_returned_when_patience_ends(tiny, tmp_path):
    config, model = replace(FEW, steps=50, patience=3), replace(MODEL, read_out="mean", verbalizer="support")
    trainer = trainer_of(tiny, tmp_path, config, method="prototypical", validation=OneEasyEpisode(), model=model)
    trained = trainer.run()
    assert trained.training["validation_accuracy"] == 1.0
    assert trained.training["best_step"] == 0
    assert trained.training["steps_run"] == len(read_log(tmp_path)) == 3 * FEW.validate_every
    assert equal(tensors(trained), tensors(trainer.init))


# Settings


OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("steps", 0, "at least 1"),
    ("meta_batch_size", -1, "at least 1"),
    ("patience", 0, "at least 1"),
    ("lr", -0.1, "positive number or 0"),
    ("scalar_lr", math.nan, "positive number"),
    ("max_grad_norm", math.inf, "positive number"),
    ("warmup", 1.0, "share of the steps"),
    ("weight_decay", -0.1, "positive number or 0"),
    ("query_loss", "first_step", "last_step"),
]


@pytest.mark.parametrize(("name", "value", "fact"), OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value, fact):
    with refused(f"{name}={value!r}", fact):
        TrainingConfig(**{name: value})


def test_the_learning_rate_rises_then_falls_to_nearly_nothing():
    rates = [TrainingConfig(steps=100, warmup=0.1).schedule(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[0] < 0.1 < max(rates) == rates[10] == 1.0
    assert 0 < rates[-1] < 0.001
    assert TrainingConfig(steps=10, warmup=0.0).schedule(0) == 1.0


# Divergence


class Diverging:
    """An engine whose losses become infinite at its fifth step."""

    processes_tasks_together: ClassVar[bool] = True
    steps = 0

    def require(self, method, inner):
        pass

    def meta_gradient(self, method, init, batch):
        self.steps += 1
        found = method.meta_gradient(init, batch)
        return found if self.steps < 5 else replace(found, losses=found.losses * math.inf)


def test_divergence_names_the_settings_to_lower_and_keeps_the_last_checkpoint(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path, replace(FEW, steps=50))
    trainer.engine = Diverging()
    with refused("step 5", "lr", "inner_lr", "overwrite=True", str(tmp_path), error=DivergenceError):
        trainer.run()
    groups, progress = RunFolder(tmp_path).load(torch.device("cpu"))
    assert progress["step"] == 4
    assert all(tensor.isfinite().all() for members in groups.values() for tensor in members.values())


@pytest.mark.parametrize(
    ("config", "rates"),
    [(replace(FEW, lr=1e12, scalar_lr=1e12), None), (FEW, InnerLearningRates(1e300, 1e300))],
    ids=["outer", "inner"],
)
def test_enormous_learning_rates_diverge(tiny, tmp_path, config, rates):
    trainer = trainer_of(tiny, tmp_path, replace(config, steps=30, patience=100), method="maml", rates=rates)
    with refused("diverged at step", "lr", error=DivergenceError):
        trainer.run()
    assert [entry["step"] for entry in read_log(tmp_path)] == list(range(1, trainer.step + 1))
