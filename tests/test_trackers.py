"""Trackers receive what the log holds."""

import pytest
from running import SMALL, failure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metawarp.cli import main
from metawarp.training.run_folder import read_log


@pytest.fixture
def command(made, tmp_path):
    return ["train", f"--corpus={made}/tiny.jsonl", f"--backbone={made}/backbone", *SMALL, f"--output={tmp_path}/init"]


def test_tensorboard_receives_every_number_of_the_log(command, tmp_path):
    main([*command, "--log-with=tensorboard"])
    events = EventAccumulator(str(tmp_path / "init" / "metawarp")).Reload()
    entries = read_log(tmp_path / "init")
    assert len(entries) == 2
    for name in ("loss", "accuracy", "tasks_per_second", "validation_accuracy"):
        reported = {event.step: event.value for event in events.Scalars(name)}
        assert reported == pytest.approx({entry["step"]: entry[name] for entry in entries if name in entry})


def test_a_tracker_that_is_refused_changes_no_file(command, tmp_path, capsys):
    main(command)
    before = (tmp_path / "init" / "init.safetensors").read_bytes()
    capsys.readouterr()
    message = failure(capsys, *command, "--overwrite", "--log-with=notebook")
    assert "log_with='notebook'" in message
    assert "tensorboard" in message
    assert (tmp_path / "init" / "init.safetensors").read_bytes() == before


def test_a_tracker_that_is_not_installed_is_named_with_its_command(command, capsys):
    assert "pip install wandb" in failure(capsys, *command, "--log-with=wandb")
