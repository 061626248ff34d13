"""The outer loop: what it learns, what it keeps, and when it stops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused, write_rows
from tiny import NO_STEPS, tiny_corpus, tiny_folder

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpClassifier, WarpConfig, evaluate, train
from metawarp.config import InnerLearningRates
from metawarp.errors import DivergenceError
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import score
from metawarp.meta_learning.engine import ENGINES
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import RunFolder, read_log

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}")
MIX = replace(CONFIG, read_out="mean+mask", verbalizer="mix")
SUPPORT = replace(CONFIG, read_out="mean", verbalizer="support")
FEW = TrainingConfig(steps=4, meta_batch_size=2, validate_every=2, validation_episodes=3, checkpoint_every=2)


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus()


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    """A corpus and a tiny backbone, as the command line takes them."""
    folder = tmp_path_factory.mktemp("files")
    return {"corpus": str(write_rows(folder / "tiny.jsonl", corpus)), "backbone": str(tiny_folder(folder / "backbone"))}


def trainer_of(
    tiny, folder, config=FEW, *, method="anil", corpus=None, sampler=None, validation=None, model=CONFIG, **settings
):
    corpus = corpus or tiny_corpus()
    warp = Warp(tiny, model)
    return Trainer(
        Init.start(warp, METHODS[method].inner, method=method, rates=settings.pop("rates", None)),
        method,
        warp,
        sampler or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3),
        validation or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3, seed=1),
        config,
        folder,
        corpus_classes=corpus.class_names,
        **settings,
    )


def equal(one, other):
    """Whether the tensors of two inits, or of two dictionaries, are equal."""
    one, other = (tensors_of(each.parameters) if isinstance(each, Init) else each for each in (one, other))
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


class Same:
    """A sampler of one episode: two classes that cannot be mistaken."""

    def __getitem__(self, i):
        texts = ("play some music please", "rain and cold weather today")
        return Episode.from_texts(("music", "rain"), texts, (0, 1), texts, (0, 1))


# What it learns


@pytest.mark.parametrize("method", ["prototypical", "fomaml", "multitask"])
def test_the_loss_falls(tiny, tmp_path, method):
    config = TrainingConfig(steps=40, meta_batch_size=2, lr=0.03, validate_every=40, validation_episodes=2)
    trainer_of(tiny, tmp_path, config, method=method).run()
    losses = [entry["loss"] for entry in read_log(tmp_path)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


@pytest.mark.parametrize("method", ["reptile", "multitask"])
def test_a_method_that_learns_only_the_adapter_is_refused_if_that_is_fixed(tiny, tmp_path, method):
    with refused("lr=0", f"method={method!r}"):
        trainer_of(tiny, tmp_path, replace(FEW, lr=0), method=method)


@pytest.mark.parametrize("method", ["prototypical", "anil", "maml"])
def test_a_prompt_that_is_not_learned_stays_while_the_rest_is(tiny, tmp_path, method):
    config = TrainingConfig(steps=6, meta_batch_size=2, lr=0, scalar_lr=0.1, validate_every=6, validation_episodes=2)
    trainer = trainer_of(tiny, tmp_path, config, method=method)
    trainer.run()
    assert not trainer.optimizer.offset["adapter"].any()
    assert trainer.optimizer.offset["log_scale"].any()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_saves_loads_and_is_evaluated(files, tmp_path, method):
    trained = train(
        files["corpus"],
        str(tmp_path),
        backbone=files["backbone"],
        method=method,
        n_way=2,
        k_shot=2,
        n_query=2,
        model=CONFIG,
        training=replace(FEW, steps=2, lr=0.1, patience=5),
    )
    loaded = Init.load(tmp_path)
    assert equal(loaded, trained)
    assert loaded.method == method
    assert loaded.inner == METHODS[method].inner
    assert loaded.training["steps_run"] == 2
    assert loaded.fingerprint == trained.fingerprint != ""
    groups, _ = RunFolder(tmp_path).load(torch.device("cpu"))
    moved = {name for name, offset in groups["offset"].items() if bool((offset != 0).any())}
    assert "adapter" in moved
    assert ("corpus_class_embeddings" in moved) == (method == "multitask")
    if method in ("maml", "fomaml", "anil"):
        assert {"log_scale", "log_strength", "log_name_count", "read_out_logits", "log_class_embedding_lr"} <= moved
    found = evaluate(
        str(tmp_path), files["corpus"], splits=str(tmp_path / "splits.json"), n_way=2, n_query=2, episodes=2,
        baselines=["none"],
    )  # fmt: skip
    assert len(found["methods"]["metawarp"]["per_episode"]) == 2
    model = WarpClassifier(str(tmp_path)).fit(["play the music", "rain today"], ["music", "rain"])
    assert set(model.predict(["some music"])) <= {"music", "rain"}


def test_on_real_text_the_loss_falls_and_validation_is_recorded(minilm, everyday, tmp_path):
    warp = Warp(minilm, WarpConfig(template="{prompt:2} {mask} {text}", read_out="mask"))
    init = Init.start(warp, NO_STEPS, method="prototypical")
    trainer = Trainer(
        init,
        "prototypical",
        warp,
        EpisodeSampler(everyday.train, 4, 1, 1),
        EpisodeSampler(everyday.validation, 4, 1, 1),
        TrainingConfig(steps=10, meta_batch_size=2, lr=0.03, validate_every=5, validation_episodes=2),
        tmp_path,
    )
    trainer.run()
    entries = read_log(tmp_path)
    assert np.mean([e["loss"] for e in entries[-3:]]) < np.mean([e["loss"] for e in entries[:3]])
    assert [e["step"] for e in entries if "validation_accuracy" in e] == [5, 10]
    assert bool((trainer.optimizer.offset["adapter"] != 0).all())


def test_weight_decay_pulls_toward_the_start_and_not_toward_zero(tiny, tmp_path):
    config = replace(FEW, steps=6, lr=0.02, scalar_lr=0.02, patience=50)
    ways = []
    for decay in (0.0, 20.0, 49.0):
        trainer = trainer_of(tiny, tmp_path, replace(config, weight_decay=decay), method="maml")
        trainer.run()
        ways.append(float(trainer.optimizer.offset["adapter"].norm()))
        kept = trainer.optimizer.tensors()["adapter"].norm() / trainer.optimizer.start["adapter"].norm()
        assert float(kept.detach()) > 0.9
    assert ways[0] > 1.5 * ways[1] > 1.5 * ways[2] > 0


def test_training_leaves_the_backbone_and_the_given_init_alone(tiny, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    trainer = trainer_of(tiny, tmp_path, method="maml")
    start = {name: tensor.clone() for name, tensor in tensors_of(trainer.init.parameters).items()}
    trained = trainer.run()
    assert equal(before, tiny.model.state_dict())
    assert equal(start, trainer.init)
    assert all(tensor.dtype == torch.float32 for tensor in tensors_of(trained.parameters).values())


def test_the_multi_step_loss_changes_what_is_learned(tiny, tmp_path):
    plain = trainer_of(tiny, tmp_path, FEW, method="maml")
    multi = trainer_of(tiny, tmp_path, replace(FEW, query_loss="multi_step"), method="maml")
    for trainer in (plain, multi):
        trainer.run()
    assert not plain.optimizer.offset["adapter"].equal(multi.optimizer.offset["adapter"])


# What it keeps and when it stops


def test_the_log_has_one_line_a_step(tiny, tmp_path):
    trainer_of(tiny, tmp_path, replace(FEW, steps=5)).run()
    entries = read_log(tmp_path)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(entry["loss"]) and 0 <= entry["accuracy"] <= 1 for entry in entries)
    assert [entry["step"] for entry in entries if "validation_accuracy" in entry] == [2, 4, 5]


def test_the_best_init_is_kept_not_the_last(tiny, tmp_path):
    config = TrainingConfig(
        steps=16, meta_batch_size=1, lr=0.6, max_grad_norm=100.0, validate_every=1, validation_episodes=12, patience=100
    )
    trainer = trainer_of(tiny, tmp_path, config, method="multitask", model=MIX)
    trained = trainer.run()
    accuracies = [entry["validation_accuracy"] for entry in read_log(tmp_path)]
    assert accuracies[-1] < trained.training["validation_accuracy"] - 0.01  # otherwise this test shows nothing
    assert trained.training["validation_accuracy"] == pytest.approx(max(trainer.best_accuracy, *accuracies), abs=1e-6)
    best = trained.training["best_step"]
    if best:
        assert accuracies[best - 1] == max(accuracies)
        assert max(accuracies[: best - 1], default=0) < max(accuracies)  # the first of equals
    predict = metawarp_predictor(trainer.warp, trained.on(tiny), trained.inner)
    again = score(predict, trainer.validation, 12).accuracy.mean()
    assert again == pytest.approx(trained.training["validation_accuracy"], abs=1e-6)


def test_the_mean_since_the_last_validation_is_validated_and_kept(tiny, tmp_path):
    states = []
    config = replace(FEW, steps=3, validate_every=3, validation_episodes=1)
    trainer = trainer_of(tiny, tmp_path, config, validation=Same())
    trainer.best_accuracy = 0.0  # so that the start is not validated, and the mean is the best

    def report(entry, step):
        states.append({name: tensor.detach().clone() for name, tensor in trainer.optimizer.tensors().items()})

    trained = trainer.run(report=report)
    assert trained.training["best_step"] == 3
    for name, tensor in tensors_of(trained.parameters).items():
        torch.testing.assert_close(tensor, torch.stack([state[name] for state in states]).mean(0).float())
        assert not torch.equal(tensor, states[-1][name].float())


def test_a_start_that_is_never_beaten_is_what_training_returns(tiny, tmp_path):
    config = replace(FEW, steps=50, patience=3)
    trainer = trainer_of(tiny, tmp_path, config, method="prototypical", validation=Same(), model=SUPPORT)
    trained = trainer.run()
    assert trained.training["validation_accuracy"] == 1.0
    assert trained.training["best_step"] == 0
    assert trained.training["steps_run"] == 3 * FEW.validate_every  # patience counts validations
    assert len(read_log(tmp_path)) == 6
    assert equal(trained, trainer.init)


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("steps", 0, "at least 1"),
        ("meta_batch_size", -1, "at least 1"),
        ("patience", 0, "at least 1"),
        ("lr", -0.1, "positive number or 0"),
        ("scalar_lr", math.nan, "positive number"),
        ("max_grad_norm", math.inf, "positive number"),
        ("warmup", 1.0, "share of the steps"),
        ("weight_decay", -0.1, "positive number or 0"),
        ("query_loss", "first_step", "last_step"),
    ],
)
def test_settings_out_of_range_are_refused(name, value, fact):
    with refused(f"{name}={value!r}", fact):
        TrainingConfig(**{name: value})


def test_the_learning_rate_rises_then_falls_to_nearly_nothing():
    rates = [TrainingConfig(steps=100, warmup=0.1).schedule(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert 0 < rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert TrainingConfig(steps=10, warmup=0.0).schedule(0) == 1.0


# Divergence


class Diverging:
    """An engine whose losses become infinite at its fifth step."""

    processes_tasks_together = True
    steps = 0

    def require(self, method):
        pass

    def meta_gradient(self, method, init, batch):
        self.steps += 1
        found = method.meta_gradient(init, batch)
        return found if self.steps < 5 else replace(found, losses=found.losses * math.inf)


def test_divergence_names_what_to_lower_and_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "metawarp", Diverging())
    with refused("step 5", "lr", "inner_lr", "overwrite=True", str(tmp_path), error=DivergenceError):
        trainer_of(tiny, tmp_path, replace(FEW, steps=50), method="maml").run()
    groups, progress = RunFolder(tmp_path).load(torch.device("cpu"))
    assert progress["step"] == 4
    assert all(bool(torch.isfinite(t).all()) for members in groups.values() for t in members.values())


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (replace(FEW, steps=30, lr=1e12, scalar_lr=1e12, patience=100), None),
        (replace(FEW, steps=30, patience=100), InnerLearningRates(1e300, 1e300)),
    ],
)
def test_enormous_learning_rates_end_in_that_error(tiny, tmp_path, config, rates):
    trainer = trainer_of(tiny, tmp_path, config, method="maml", rates=rates)
    with refused("diverged at step", "lr", error=DivergenceError):
        trainer.run()
    assert [entry["step"] for entry in read_log(tmp_path)] == list(range(1, trainer.step + 1))
