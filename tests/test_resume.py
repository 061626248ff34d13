"""Run folders: a killed run continues as if it had not been killed, and files are replaced on request only."""

import json
import shutil
from dataclasses import replace

import commands
import pytest
from marks import slow
from running import ended, refused, started, until
from tiny import tiny_corpus
from torch.testing import assert_close
from trainings import FEW, SMALL_TRAINING, equal, killed, tensors, trainer_of

from metawarp import Init, train
from metawarp.cli import main
from metawarp.meta_learning.table import METHODS
from metawarp.output_folder import LOCK, UNFINISHED
from metawarp.training.run_folder import read_log

SEVEN = replace(FEW, steps=7, lr=0.1)


@pytest.fixture
def run(made, tmp_path):
    """A function that trains on the files of `made` into the folder "run"."""

    def trained(corpus=None, **settings):
        arguments = {**SMALL_TRAINING, "backbone": str(made / "backbone"), **settings}
        return train(corpus or str(made / "tiny.jsonl"), str(tmp_path / "run"), **arguments)

    return trained


def losses_of(folder):
    return [entry["loss"] for entry in read_log(folder)]


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != LOCK}


# Resume


@pytest.mark.parametrize(
    ("method", "steps_done"),
    [("maml", 2), ("multitask", 5), *(slow(method, 5) for method in sorted(set(METHODS) - {"multitask"}))],
)
def test_an_interrupted_run_resumes_to_the_same_init(tiny, tmp_path, method, steps_done):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    expected = trainer_of(tiny, whole, SEVEN, method=method).run()
    killed(trainer_of(tiny, halves, SEVEN, method=method, killed_before=2 * steps_done))
    assert len(read_log(halves)) == steps_done
    found = trainer_of(tiny, halves, SEVEN, method=method).run(resume=True)
    # Cached features come from the first pass over a text, which is of different width in the two runs.
    assert_close(tensors(found), tensors(expected), rtol=1e-6, atol=1e-8)
    assert found.training == expected.training
    one, other = ([entry | {"tasks_per_second": 0} for entry in read_log(folder)] for folder in (halves, whole))
    assert [pytest.approx(entry, rel=1e-9) for entry in one] == other


@pytest.mark.slow
def test_a_process_that_is_killed_resumes_to_the_same_files(made, tmp_path):
    command = commands.train(
        made, made / "tiny.jsonl", "--method=maml", "--k-shot=[1,3]", "--training.steps=40",
        "--training.meta-batch-size=2", "--training.validate-every=4", "--training.validation-episodes=3",
        "--training.patience=50", "--training.checkpoint-every=6",
    )  # fmt: skip
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    main([*command, f"--output={whole}"])
    process = started("-m", "metawarp", *command, f"--output={halves}")
    until((halves / UNFINISHED / "checkpoint.safetensors").exists, process)
    process.kill()
    assert ended(process)[0] == -9, "the process ended before it was killed"
    assert not (halves / "init.safetensors").exists()
    main([*command, f"--output={halves}", "--resume"])
    for name in ("init.safetensors", "splits.json", "config.json"):
        assert (halves / name).read_bytes() == (whole / name).read_bytes(), name
    assert [entry["step"] for entry in read_log(halves)] == list(range(1, 41))
    assert losses_of(halves) == losses_of(whole)


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path):
    expected = trainer_of(tiny, tmp_path).run()
    before = read_log(tmp_path)
    assert equal(tensors(trainer_of(tiny, tmp_path).run(resume=True)), tensors(expected))
    assert read_log(tmp_path) == before


def test_a_run_that_was_replaced_is_not_resumed(tiny, tmp_path):
    expected = trainer_of(tiny, tmp_path).run()
    losses = losses_of(tmp_path)
    killed(trainer_of(tiny, tmp_path, killed_before=2))  # after one step, before its first checkpoint
    assert equal(tensors(trainer_of(tiny, tmp_path).run(resume=True)), tensors(expected))
    assert losses_of(tmp_path) == losses


def test_a_half_written_line_of_the_log_is_written_again(tiny, tmp_path):
    trainer_of(tiny, tmp_path, SEVEN).run()
    expected = losses_of(tmp_path)
    killed(trainer_of(tiny, tmp_path, SEVEN, killed_before=10))
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 6, "lo')
    trainer_of(tiny, tmp_path, SEVEN).run(resume=True)
    assert losses_of(tmp_path) == pytest.approx(expected, rel=1e-9)


def test_other_settings_and_another_recipe_are_refused_and_named(tiny, tmp_path):
    trainer_of(tiny, tmp_path, record={"seed": 0, "k_shot": (1, 5)}).run()
    before = contents(tmp_path)
    changed = trainer_of(tiny, tmp_path, replace(FEW, lr=0.5), record={"seed": 1, "k_shot": (1, 5)})
    changed.settings["recipe"] = 1
    with refused(str(tmp_path), "other settings: lr, recipe, seed;"):
        changed.run(resume=True)
    assert contents(tmp_path) == before
    trainer_of(tiny, tmp_path, record={"seed": 0, "k_shot": (1, 5)}).run(resume=True)


def test_without_a_checkpoint_there_is_nothing_to_resume(run, tmp_path):
    with refused(str(tmp_path / "run"), "checkpoint.safetensors", "resume=True"):
        run(resume=True)
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused(tiny, tmp_path):
    trainer_of(tiny, tmp_path).run()
    file = tmp_path / "checkpoint.safetensors"
    good = file.read_bytes()
    for damaged in (good[:100], b"", good[:-5]):
        file.write_bytes(damaged)
        with refused(str(file), "damaged", "overwrite=True"):
            trainer_of(tiny, tmp_path).run(resume=True)


def test_a_corpus_that_was_moved_is_the_same_corpus(run, made, tmp_path, monkeypatch):
    run(training=replace(FEW, steps=2))
    shutil.copy(made / "tiny.jsonl", tmp_path / "moved.jsonl")
    monkeypatch.chdir(tmp_path)
    run(corpus="moved.jsonl", training=replace(FEW, steps=2), resume=True)
    (tmp_path / "moved.jsonl").write_text((made / "tiny.jsonl").read_text().replace("the", "some"))
    with refused("other settings: corpus_fingerprint;"):
        run(corpus="moved.jsonl", training=replace(FEW, steps=2), resume=True)


def test_damage_of_checkpoint_or_log_is_noticed(tiny, tmp_path):
    trainer_of(tiny, tmp_path).run()
    checkpoint, log = tmp_path / "checkpoint.safetensors", tmp_path / "log.jsonl"
    good, lines = checkpoint.read_bytes(), log.read_bytes()
    for position in range(200, len(good), len(good) // 40):
        changed = bytearray(good)
        changed[position] ^= 4
        checkpoint.write_bytes(changed)
        with refused(str(checkpoint), "damaged", "overwrite=True"):
            trainer_of(tiny, tmp_path).run(resume=True)
    checkpoint.write_bytes(good)
    others = lines[50:], b"{}\n" + lines, lines + lines, lines.replace(b'"step"', b'"stop"')
    for damaged in (b"\xff\xfe" + lines, b"[" * 9999, *others):
        log.write_bytes(damaged)
        if damaged == lines + lines:
            trainer_of(tiny, tmp_path).run(resume=True)
            assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 3, 4], "no step is there twice"
        else:
            with refused(str(log), "damaged", "overwrite=True"):
                trainer_of(tiny, tmp_path).run(resume=True)


def test_a_resumed_run_must_have_the_same_classes(run, tmp_path):
    names = list(tiny_corpus().class_names)
    first, second = (
        {"train": order[:2], "validation": order[2:4], "test": order[4:]} for order in (names, names[::-1])
    )
    run(splits=first)
    before = contents(tmp_path / "run")
    with refused("other settings: class_names;"):
        run(splits=second, resume=True)
    assert contents(tmp_path / "run") == before


# The output folder


def test_an_earlier_run_is_replaced_on_request_only_and_other_files_survive(run, tmp_path):
    first = run()
    folder = tmp_path / "run"
    (folder / "notes.txt").write_text("mine")
    (folder / "splits-holidays.json").write_text("mine")
    (folder / "folder").mkdir()
    before = contents(folder)
    with refused(str(folder), "init.safetensors", "resume=True", "overwrite=True"):
        run(seed=1)
    assert contents(folder) == before
    second = run(seed=1, overwrite=True)
    assert second.fingerprint == Init.load(folder).fingerprint
    assert second.training["seed"] == 1 != first.training["seed"]
    assert (folder / "notes.txt").read_text() == (folder / "splits-holidays.json").read_text() == "mine"
    assert {file.name for file in folder.iterdir()} == {*before, "folder", LOCK}


@pytest.mark.parametrize(
    ("name", "overwrite", "facts"),
    [
        *((name, False, ["overwrite=True"]) for name in ("README.md", "config.json")),
        ("checkpoint.safetensors", False, ["resume=True", "overwrite=True"]),
        *((name, True, ["metawarp-init", "not replaced"]) for name in ("splits.json", "log.jsonl", "init.safetensors")),
    ],
)
def test_files_that_are_not_of_a_run_are_never_replaced(run, tmp_path, name, overwrite, facts):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with refused(name, *facts):
        run(overwrite=overwrite)
    assert (tmp_path / "run" / name).read_text() == "mine"


@pytest.mark.parametrize("method", ["anil", "maml"])
def test_a_run_of_varying_ways_and_shots_leaves_its_files(run, tmp_path, method):
    trained = run(tiny_corpus(n_classes=8), method=method, n_way=(2, 3), k_shot=(0, 3))
    names = {"README.md", "checkpoint.safetensors", "config.json", "init.safetensors", "log.jsonl", "splits.json"}
    assert contents(tmp_path / "run").keys() == names
    splits = json.loads((tmp_path / "run" / "splits.json").read_text(encoding="utf-8"))
    assert {part: len(splits[part]) for part in splits} == trained.training["classes"]
    assert trained.training["k_shot"] == (0, 3)
    assert trained.training["steps_run"] == 4
