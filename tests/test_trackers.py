"""Trackers are told what the log holds."""

import pytest
from running import SMALL, failure, log_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metawarp.cli import main


@pytest.fixture
def command(made, tmp_path):
    return ["train", f"--corpus={made}/tiny.jsonl", f"--backbone={made}/backbone", *SMALL, f"--output={tmp_path}/init"]


def test_tensorboard_is_told_every_number_of_the_log(command, tmp_path):
    main([*command, "--log-with=tensorboard"])
    events = EventAccumulator(str(tmp_path / "init" / "metawarp")).Reload()
    entries = log_of(tmp_path / "init")
    assert len(entries) == 2
    for name in ("loss", "accuracy", "tasks_per_second", "validation_accuracy"):
        told = {event.step: event.value for event in events.Scalars(name)}
        assert told == pytest.approx({entry["step"]: entry[name] for entry in entries if name in entry})


def test_a_tracker_that_is_refused_costs_no_init(command, tmp_path, capsys):
    main(command)
    before = (tmp_path / "init" / "init.safetensors").read_bytes()
    capsys.readouterr()
    failure(capsys, *command, "--overwrite", "--log-with=notebook")
    assert (tmp_path / "init" / "init.safetensors").read_bytes() == before


def test_an_unknown_tracker_ends_in_one_sentence(command, tmp_path, capsys):
    assert failure(capsys, *command, "--log-with=notebook").startswith("tracker 'notebook' is not known to Accelerate;")


def test_a_tracker_that_is_not_installed_is_named_with_its_command(command, tmp_path, capsys):
    assert failure(capsys, *command, "--log-with=wandb") == "tracker 'wandb' is not installed: pip install wandb"
