"""The outer loop: what it learns, what it keeps, when it stops, and that a killed run goes on as if never killed."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import Killed, ended, log_of, refused, started, until, write_rows
from tiny import tiny_corpus, tiny_folder

from episodes import Episode, EpisodeSampler, InputError
from metawarp import Init, Warp, WarpClassifier, WarpConfig, evaluate, train
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.cli import main
from metawarp.evaluation.scores import metawarp_predictor, score
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.training import outer_loop
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import DivergenceError, Trainer
from metawarp.training.run_folder import RunFolder

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}")
MIX = replace(CONFIG, read_out="mean+mask", rows="mix")
SUPPORT = replace(CONFIG, read_out="mean", rows="support")
FEW = TrainingConfig(steps=4, meta_batch=2, validate_every=2, validation_episodes=3, checkpoint_every=2)


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
        warp,
        sampler or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3),
        validation or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3, seed=1),
        config,
        folder,
        classes=corpus.class_names,
        **settings,
    )


def equal(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


class Same:
    """A sampler of one episode: two classes that cannot be mistaken."""

    def __getitem__(self, i):
        texts = ("play some music please", "rain and cold weather today")
        return Episode.from_texts(("music", "rain"), texts, (0, 1), texts, (0, 1))


# What it learns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["prototypical", "fomaml", "multitask"])
def test_the_loss_falls(tiny, tmp_path, method):
    config = TrainingConfig(steps=40, meta_batch=2, lr=0.03, validate_every=40, validation_episodes=2)
    trainer_of(tiny, tmp_path, config, method=method).run()
    losses = [entry["loss"] for entry in log_of(tmp_path)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


@pytest.mark.parametrize("method", ["reptile", "multitask"])
def test_what_learns_nothing_beside_the_prompt_is_refused_where_that_stays(tiny, tmp_path, method):
    with refused(f"training.lr is 0, and method {method!r} learns nothing then; raise it."):
        trainer_of(tiny, tmp_path, replace(FEW, lr=0), method=method)


@pytest.mark.parametrize("method", ["prototypical", "anil", "maml"])
def test_a_prompt_that_is_not_learned_stays_while_the_rest_is(tiny, tmp_path, method):
    config = TrainingConfig(steps=6, meta_batch=2, lr=0, scalar_lr=0.1, validate_every=6, validation_episodes=2)
    trainer = trainer_of(tiny, tmp_path, config, method=method)
    trainer.run()
    assert not trainer.iterates.offset["prompt"].any()
    assert trainer.iterates.offset["log_scale"].any()


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
        warp=CONFIG,
        training=replace(FEW, steps=2, lr=0.1, patience=5),
    )
    loaded = Init.load(tmp_path)
    assert equal(loaded.tensors, trained.tensors)
    assert loaded.method == method
    assert loaded.inner == METHODS[method].inner
    assert loaded.training["steps_run"] == 2
    assert loaded.fingerprint == trained.fingerprint != ""
    groups, _ = RunFolder(tmp_path).load(torch.device("cpu"))
    moved = {name for name, offset in groups["offset"].items() if bool((offset != 0).any())}
    assert "prompt" in moved
    assert ("class_rows" in moved) == (method == "multitask")
    if method in ("maml", "fomaml", "anil"):
        assert {"log_scale", "log_strength", "log_name_count", "read_out", "log_inner_lr.rows"} <= moved
    found = evaluate(
        str(tmp_path), files["corpus"], splits=str(tmp_path / "splits.json"), n_way=2, n_query=2, episodes=2,
        baselines=["none"],
    )  # fmt: skip
    assert len(found["methods"]["metawarp"]["per_episode"]) == 2
    model = WarpClassifier(str(tmp_path)).fit(["play the music", "rain today"], ["music", "rain"])
    assert set(model.predict(["some music"])) <= {"music", "rain"}


def test_on_real_text_the_loss_falls_and_validation_is_recorded(minilm, everyday, tmp_path):
    warp = Warp(minilm, WarpConfig(template="{prompt:2} {mask} {text}", read_out="mask"))
    init = Init.start(warp, InnerLoop(0, ()), method="prototypical")
    trainer = Trainer(
        init,
        warp,
        EpisodeSampler(everyday.train, 4, 1, 1),
        EpisodeSampler(everyday.validation, 4, 1, 1),
        TrainingConfig(steps=10, meta_batch=2, lr=0.03, validate_every=5, validation_episodes=2),
        tmp_path,
    )
    trainer.run()
    entries = log_of(tmp_path)
    assert np.mean([e["loss"] for e in entries[-3:]]) < np.mean([e["loss"] for e in entries[:3]])
    assert [e["step"] for e in entries if "validation_accuracy" in e] == [5, 10]
    assert bool((trainer.iterates.offset["prompt"] != 0).all())


def test_weight_decay_pulls_toward_the_start_and_not_toward_zero(tiny, tmp_path):
    config = replace(FEW, steps=6, lr=0.02, scalar_lr=0.02, patience=50)
    ways = []
    for decay in (0.0, 20.0, 49.0):
        trainer = trainer_of(tiny, tmp_path, replace(config, weight_decay=decay), method="maml")
        trainer.run()
        ways.append(float(trainer.iterates.offset["prompt"].norm()))
        kept = trainer.iterates.state()["prompt"].norm() / trainer.iterates.start["prompt"].norm()
        assert float(kept.detach()) > 0.9
    assert ways[0] > 1.5 * ways[1] > 1.5 * ways[2] > 0


def test_training_leaves_the_backbone_and_the_given_init_alone(tiny, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    trainer = trainer_of(tiny, tmp_path, method="maml")
    start = {name: tensor.clone() for name, tensor in trainer.init.tensors.items()}
    trained = trainer.run()
    assert equal(before, tiny.model.state_dict())
    assert equal(start, trainer.init.tensors)
    assert all(tensor.dtype == torch.float32 for tensor in trained.tensors.values())


def test_the_multi_step_loss_changes_what_is_learned(tiny, tmp_path):
    plain = trainer_of(tiny, tmp_path, FEW, method="maml")
    multi = trainer_of(tiny, tmp_path, replace(FEW, multi_step_loss=True), method="maml")
    for trainer in (plain, multi):
        trainer.run()
    assert not plain.iterates.offset["prompt"].equal(multi.iterates.offset["prompt"])


# What it keeps and when it stops --------------------------------------------------------------------------


def test_the_log_has_one_line_a_step(tiny, tmp_path):
    trainer_of(tiny, tmp_path, replace(FEW, steps=5)).run()
    entries = log_of(tmp_path)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(entry["loss"]) and 0 <= entry["accuracy"] <= 1 for entry in entries)
    assert [entry["step"] for entry in entries if "validation_accuracy" in entry] == [2, 4, 5]


def test_the_best_init_is_kept_not_the_last(tiny, tmp_path):
    config = TrainingConfig(
        steps=16, meta_batch=1, lr=0.6, clip=100.0, validate_every=1, validation_episodes=12, patience=100
    )
    trainer = trainer_of(tiny, tmp_path, config, method="multitask", model=MIX)
    trained = trainer.run()
    accuracies = [entry["validation_accuracy"] for entry in log_of(tmp_path)]
    assert accuracies[-1] < trained.training["validation_accuracy"] - 0.01  # otherwise this test shows nothing
    assert trained.training["validation_accuracy"] == pytest.approx(max(trainer.best_accuracy, *accuracies), abs=1e-6)
    best = trained.training["best_step"]
    if best:
        assert accuracies[best - 1] == max(accuracies)
        assert max(accuracies[: best - 1], default=0) < max(accuracies)  # the first of equals
    predict = metawarp_predictor(trainer.warp, trained.to(tiny), trained.inner)
    again = score(predict, trainer.validation, 12).accuracy.mean()
    assert again == pytest.approx(trained.training["validation_accuracy"], abs=1e-6)


def test_what_is_validated_and_kept_is_the_mean_since_the_validation_before(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path, replace(FEW, steps=5, validate_every=3))
    states, advance = [], trainer._advance

    def recorded():
        found = advance()
        states.append({name: tensor.detach().clone() for name, tensor in trainer.iterates.state().items()})
        trainer.best_accuracy = -1.0  # so that every validation is the best
        return found

    trainer._advance = recorded
    trained = trainer.run()
    expected = {name: torch.stack([state[name] for state in states[3:]]).mean(0) for name in states[0]}
    assert trained.training["best_step"] == 5
    for name, tensor in trained.tensors.items():
        torch.testing.assert_close(tensor, expected[name].float())
        assert not torch.equal(tensor, states[-1][name].float())


def test_a_start_that_is_never_beaten_is_what_training_returns(tiny, tmp_path):
    config = replace(FEW, steps=50, patience=3)
    trainer = trainer_of(tiny, tmp_path, config, method="prototypical", validation=Same(), model=SUPPORT)
    trained = trainer.run()
    assert trained.training["validation_accuracy"] == 1.0
    assert trained.training["best_step"] == 0
    assert trained.training["steps_run"] == 3 * FEW.validate_every  # patience counts validations
    assert len(log_of(tmp_path)) == 6
    assert equal(trained.tensors, trainer.init.tensors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 at least."),
        ({"meta_batch": -1}, "meta_batch is -1; it must be 1 at least."),
        ({"patience": 0}, "patience is 0; it must be 1 at least."),
        ({"lr": -0.1}, "lr is -0.1; it must be a positive number, or 0 for a prompt that stays."),
        ({"scalar_lr": math.nan}, "scalar_lr is nan; it must be a positive number."),
        ({"clip": math.inf}, "clip is inf; it must be a positive number."),
        ({"warmup": 1.0}, "warmup is 1.0; it is a share of the steps, from 0 to below 1."),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; it cannot be negative."),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with refused(message):
        TrainingConfig(**changes)


def test_the_learning_rate_rises_then_falls_to_nearly_nothing():
    rates = [TrainingConfig(steps=100, warmup=0.1).rate(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert 0 < rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert TrainingConfig(steps=10, warmup=0.0).rate(0) == 1.0


# Divergence -----------------------------------------------------------------------------------------------


def test_divergence_says_what_to_lower_and_keeps_the_last_good_checkpoint(tiny, tmp_path):
    good = trainer_of(tiny, tmp_path, method="maml")
    good.run()
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    # The same run, but from step 5 on each step is enormous.
    bad = trainer_of(tiny, tmp_path, method="maml")
    bad._restore()
    bad.config = replace(FEW, steps=50)
    for group in bad.iterates._optimizer.param_groups:
        group["base"] = 1e12
    found = []
    with pytest.raises(DivergenceError) as error:
        while bad.step < 50:
            found.append(bad._advance().losses)
    assert all(bool(torch.isfinite(losses).all()) for losses in found)
    assert re.fullmatch(
        r"training diverged at step \d+ \(loss \S+, norm of the meta-gradient \S+\); lower --training\.lr, "
        rf"--inner_lr\.prompt or --inner_lr\.rows\. Then start anew with --overwrite\. "
        rf"The last checkpoint in '{tmp_path}' is kept until then\.",
        str(error.value),
    )
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    groups, progress = RunFolder(tmp_path).load(torch.device("cpu"))
    assert progress["step"] == 4
    assert all(bool(torch.isfinite(t).all()) for members in groups.values() for t in members.values())


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (replace(FEW, steps=30, lr=1e12, scalar_lr=1e12, patience=100), None),
        (replace(FEW, steps=30, patience=100), InnerRates(prompt=1e300, rows=1e300)),
    ],
)
def test_enormous_learning_rates_end_in_that_error(tiny, tmp_path, config, rates):
    trainer = trainer_of(tiny, tmp_path, config, method="maml", rates=rates)
    with pytest.raises(DivergenceError, match=r"^training diverged at step \d+ \(loss .*; lower --training\.lr, "):
        trainer.run()
    assert [entry["step"] for entry in log_of(tmp_path)] == list(range(1, trainer.step + 1))


# Resume ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps_done", [2, 5])
def test_an_interrupted_run_resumes_to_the_same_init(tiny, tmp_path, method, steps_done):
    config = replace(FEW, steps=7, lr=0.1)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    expected = trainer_of(tiny, whole, config, method=method).run()
    sampler = EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tiny, halves, config, method=method, sampler=Killed(sampler, 2 * steps_done)).run()
    assert len(log_of(halves)) == steps_done
    found = trainer_of(tiny, halves, config, method=method).run(resume=True)
    # What a text alone is read as is kept from its first reading, beside other texts in the two runs: the last bit.
    for name, tensor in expected.tensors.items():
        assert torch.allclose(found.tensors[name], tensor, rtol=1e-6, atol=1e-8), name
    assert found.training == expected.training
    one, other = log_of(halves), log_of(whole)
    assert [entry.pop("tasks_per_second") > 0 for entry in one + other]
    assert [pytest.approx(entry, rel=1e-9) for entry in one] == other


def test_a_run_that_is_really_killed_resumes_to_the_same_file(files, tmp_path):
    options = {
        "corpus": files["corpus"],
        "backbone": files["backbone"],
        "method": "maml",
        "n-way": 2,
        "k-shot": "[1,3]",
        "n-query": 2,
        "steps": 40,
        "training.meta_batch": 2,
        "training.validate_every": 4,
        "training.validation_episodes": 3,
        "training.patience": 50,
        "training.checkpoint_every": 6,
    }
    arguments = [
        "train",
        *(f"--{name}={value}" for name, value in options.items()),
        "--warp.template={prompt:2} {text} {mask}",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main([*arguments, f"--output={whole}"])
    run = started("-m", "metawarp", *arguments, f"--output={killed}")
    until((killed / "checkpoint.safetensors").exists, run)
    run.kill()
    assert ended(run)[0] == -9  # it was killed, and had not ended by itself
    assert not (killed / "init.safetensors").exists()
    steps = len(log_of(killed)) if (killed / "log.jsonl").read_bytes().endswith(b"\n") else None
    assert steps is None or 6 <= steps < 40
    main([*arguments, f"--output={killed}", "--resume"])
    for name in ("init.safetensors", "splits.json", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    entries, expected = log_of(killed), log_of(whole)
    assert [entry["step"] for entry in entries] == list(range(1, 41))
    assert [entry["loss"] for entry in entries] == [entry["loss"] for entry in expected]


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path):
    expected = trainer_of(tiny, tmp_path).run()
    before = log_of(tmp_path)
    assert equal(trainer_of(tiny, tmp_path).run(resume=True).tensors, expected.tensors)
    assert log_of(tmp_path) == before


def test_a_run_that_is_written_over_is_not_resumed_by_mistake(tiny, tmp_path):
    trainer_of(tiny, tmp_path).run()
    sampler = Killed(EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3), 2)
    with pytest.raises(KeyboardInterrupt):  # after one step, before its first checkpoint
        trainer_of(tiny, tmp_path, sampler=sampler).run()
    other = tmp_path / "other"
    other.mkdir()
    expected = trainer_of(tiny, other).run()
    assert equal(trainer_of(tiny, tmp_path).run(resume=True).tensors, expected.tensors)  # from its own first step on
    assert [entry["loss"] for entry in log_of(tmp_path)] == [entry["loss"] for entry in log_of(other)]


def test_a_half_written_line_of_the_log_is_written_again(tiny, tmp_path):
    trainer_of(tiny, tmp_path, replace(FEW, steps=7)).run()
    expected = [entry["loss"] for entry in log_of(tmp_path)]
    sampler = Killed(EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3), 10)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tiny, tmp_path, replace(FEW, steps=7), sampler=sampler).run()
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 6, "lo')
    trainer_of(tiny, tmp_path, replace(FEW, steps=7)).run(resume=True)
    assert [entry["loss"] for entry in log_of(tmp_path)] == pytest.approx(expected, rel=1e-9)


def test_other_settings_are_refused_and_named(tiny, tmp_path):
    trainer_of(tiny, tmp_path, description={"seed": 0, "k_shot": (1, 5)}).run()
    before = (tmp_path / "log.jsonl").read_bytes()
    changed = trainer_of(tiny, tmp_path, replace(FEW, lr=0.5), description={"seed": 1, "k_shot": (1, 5)})
    with refused(
        f"the run in '{tmp_path}' has other settings: lr, seed; resume it with the settings that it was started with."
    ):
        changed.run(resume=True)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    trainer_of(tiny, tmp_path, description={"seed": 0, "k_shot": (1, 5)}).run(resume=True)


def test_a_run_of_another_recipe_is_not_gone_on_with(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(outer_loop, "RECIPE", 1)
    trainer_of(tiny, tmp_path).run()
    monkeypatch.undo()
    with pytest.raises(InputError, match="has other settings: recipe;"):
        trainer_of(tiny, tmp_path).run(resume=True)


def test_without_a_checkpoint_there_is_nothing_to_resume(files, tmp_path):
    nowhere = tmp_path / "nowhere"
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "warp": CONFIG, "training": FEW}
    with refused(f"'{nowhere}' holds no checkpoint.safetensors to resume from; start it without --resume."):
        train(files["corpus"], str(nowhere), resume=True, **arguments)
    assert not nowhere.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-5]])
def test_a_damaged_checkpoint_is_refused(tiny, tmp_path, damage):
    trainer_of(tiny, tmp_path).run()
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"^'{file}' is damaged \([^\n]+\); start anew with --overwrite\.$"):
        trainer_of(tiny, tmp_path).run(resume=True)


def test_a_resumed_run_must_have_the_same_classes(files, corpus, tmp_path):
    names = list(corpus.class_names)
    splits = []
    for i, order in enumerate((names, names[::-1])):
        parts = {"train": order[:2], "validation": order[2:4], "test": order[4:]}
        splits.append(tmp_path / f"splits{i}.json")
        splits[i].write_text(json.dumps(parts))
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "warp": CONFIG, "training": FEW}
    output = tmp_path / "run"
    train(files["corpus"], str(output), splits=str(splits[0]), **arguments)
    written = (output / "splits.json").read_bytes()
    with pytest.raises(ValueError, match=r"has other settings: class_names; resume it with the settings"):
        train(files["corpus"], str(output), splits=str(splits[1]), resume=True, **arguments)
    assert (output / "splits.json").read_bytes() == written


# The output folder ----------------------------------------------------------------------------------------


def test_another_run_is_kept_unless_told_and_strange_files_survive(files, tmp_path):
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "warp": CONFIG, "training": FEW}
    first = train(files["corpus"], str(tmp_path), **arguments)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with refused(
        f"output folder '{tmp_path}' holds another run (init.safetensors); choose another folder, go on with it by "
        "--resume, or --overwrite."
    ):
        train(files["corpus"], str(tmp_path), seed=1, **arguments)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    second = train(files["corpus"], str(tmp_path), seed=1, overwrite=True, **arguments)
    assert second.fingerprint == Init.load(tmp_path).fingerprint
    assert second.training["seed"] == 1 != first.training["seed"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "folder").is_dir()
    assert {file.name for file in tmp_path.iterdir()} == {*before, "folder"}


@pytest.mark.parametrize("name", ["splits.json", "log.jsonl", "init.safetensors"])
def test_files_of_somebody_else_are_left_alone_even_so(files, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with refused(
        f"{name} in the folder {str(tmp_path)!r} is not of a metawarp-init and is left alone; choose another folder."
    ):
        train(files["corpus"], str(tmp_path), backbone=files["backbone"], overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("method", ["anil", "maml"])
def test_ways_and_shots_may_vary(files, tmp_path, method):
    corpus = tiny_corpus(n_classes=8)
    init = train(
        corpus, str(tmp_path / "run"), backbone=files["backbone"], method=method, n_way=[2, 3], k_shot=[0, 3],
        n_query=2, warp=CONFIG, training=FEW,
    )  # fmt: skip
    assert init.training["steps_run"] == 4


@pytest.mark.parametrize("name", ["README.md", "config.json", "checkpoint.safetensors"])
def test_files_that_a_run_would_replace_are_not_lost_unasked(files, tmp_path, name):
    (tmp_path / name).write_text("mine")
    on = "go on with it by --resume, " if name.startswith("checkpoint") else ""
    with refused(f"output folder '{tmp_path}' holds another run ({name}); choose another folder, {on}or --overwrite."):
        train(files["corpus"], str(tmp_path), backbone=files["backbone"])
    assert (tmp_path / name).read_text() == "mine"


def test_what_a_run_leaves_behind(files, tmp_path):
    trained = train(
        files["corpus"], str(tmp_path / "a" / "run"), backbone=files["backbone"], n_way=2, k_shot=(1, 2), n_query=2,
        warp=CONFIG, training=FEW,
    )  # fmt: skip
    names = {"README.md", "checkpoint.safetensors", "config.json", "init.safetensors", "log.jsonl", "splits.json"}
    assert {file.name for file in (tmp_path / "a" / "run").iterdir()} == names
    splits = json.loads((tmp_path / "a" / "run" / "splits.json").read_text(encoding="utf-8"))
    assert {part: len(splits[part]) for part in splits} == trained.training["classes"]
    assert trained.training["k_shot"] == (1, 2)
    assert trained.training["steps_run"] == 4
