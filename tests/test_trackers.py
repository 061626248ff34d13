"""Trackers receive the numbers of the log."""

import pytest
from commands import refusal, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metawarp.cli import main
from metawarp.training.run_folder import read_log


@pytest.fixture
def command(made, tmp_path):
    return train(made, made / "tiny.jsonl", f"--output={tmp_path}/init")


def test_tensorboard_receives_every_number_of_the_log(command, tmp_path):
    main([*command, "--log-with=tensorboard"])
    events = EventAccumulator(str(tmp_path / "init" / "metawarp")).Reload()
    entries = read_log(tmp_path / "init")
    assert len(entries) == 2
    for name in ("loss", "accuracy", "tasks_per_second", "validation_accuracy"):
        reported = {event.step: event.value for event in events.Scalars(name)}
        assert reported == pytest.approx({entry["step"]: entry[name] for entry in entries if name in entry})


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_and_changes_no_file(command, tmp_path, capsys):
    (tmp_path / "init").mkdir()
    refusal(capsys, [*command, "--overwrite", "--log-with=notebook"], "log_with='notebook'", "tensorboard")
    refusal(capsys, [*command, "--log-with=wandb"], "pip install wandb")
    assert not list((tmp_path / "init").iterdir())
