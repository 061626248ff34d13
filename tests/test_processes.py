"""Several processes compute what one computes. They are really launched, on Gloo."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest
from running import SMALL, ended, process, refused, started, until
from safetensors.torch import load_file

from metawarp import processes
from metawarp.output_folder import UNFINISHED
from metawarp.processes import SINGLE, Processes
from metawarp.training.run_folder import read_log

# Three tasks a step, which two processes cannot share evenly: of different shots, now and then none.
RUN = [*SMALL, "--method=maml", "--k-shot=[0,2]", "--training.steps=30", "--training.meta-batch-size=3"]
RUN += ["--training.patience=100", "--training.checkpoint-every=1"]


def launched(*arguments, program=("-m", "metawarp")):
    """The running `accelerate launch` of two processes of the command line, or of another program."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}"]
    return started(*launch, *program, *arguments)


def finished(*arguments, **program):
    """Stdout of two processes, which must succeed."""
    code, out, err = ended(launched(*arguments, **program))
    assert code == 0, err
    return out


def assert_same_init(folder, other):
    one, two = (load_file(run / "init.safetensors") for run in (folder, other))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert (tensor - two[name]).norm() <= 1e-5 * tensor.norm(), name


@pytest.fixture(scope="module")
def train(made):
    return ["train", f"--corpus={made}/tiny.jsonl", f"--backbone={made}/backbone", *RUN]


@pytest.fixture(scope="module")
def alone(train, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "init"
    assert process(*train, f"--output={folder}").returncode == 0
    return folder


@pytest.mark.slow
def test_two_processes_train_the_init_of_one(train, alone, tmp_path):
    out = finished(*train, f"--output={tmp_path}/two", "--log-with=tensorboard")
    assert len(out.splitlines()) == 1
    assert list((tmp_path / "two" / "metawarp").glob("events.*"))
    assert_same_init(alone, tmp_path / "two")
    one, two = read_log(alone), read_log(tmp_path / "two")
    assert len(one) == len(two) == 30
    for before, after in zip(one, two, strict=True):
        for name in ("loss", "accuracy", "validation_accuracy"):
            assert after.get(name, 0.0) == pytest.approx(before.get(name, 0.0), rel=1e-5), name


@pytest.mark.slow
def test_two_processes_evaluate_every_episode_of_one(made, tmp_path):
    command = ["evaluate", f"--corpus={made}/tiny.jsonl", f"--init={made}/init", f"--backbone={made}/backbone"]
    command += [f"--splits={made}/init/splits.json", "--n-way=2", "--n-query=3", "--episodes=7"]
    assert process(*command, f"--output={tmp_path}/one.json").returncode == 0
    assert finished(*command, f"--output={tmp_path}/two.json").count("prototypes+names") == 1
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert len(one["methods"]["metawarp"]["per_episode"]) == 7
    for results in (one, two):  # probabilities depend, in the last bit, on the texts that are read together
        for method in results["methods"].values():
            method["calibration_error"] = method["calibration_error"] and round(method["calibration_error"], 6)
    assert one == two


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_a_single_process_continues_it(train, alone, tmp_path):
    folder = tmp_path / "killed"
    running = launched(*train, f"--output={folder}")
    try:
        log = folder / UNFINISHED / "log.jsonl"
        assert until(lambda: log.exists() and log.read_text(), running), ended(running)
        workers = [p for p in psutil.Process(running.pid).children(recursive=True) if p.environ().get("RANK") == "1"]
        workers[0].send_signal(signal.SIGKILL)
        code, _, err = ended(running)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert code != 0
    assert "Signal 9 (SIGKILL)" in err
    assert 1 <= len(log.read_text().splitlines()) < 30, "it was over before it could be killed"
    resumed = process(*train, f"--output={folder}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_init(alone, folder)


@pytest.mark.slow
def test_two_processes_share_a_cache(train, tmp_path):
    late = [*train, "--training.steps=2", "--model.adapter-layer=1", f"--cache-folder={tmp_path}/cache"]
    finished(*late, f"--output={tmp_path}/two")
    assert len(list((tmp_path / "cache").glob("[!.]*"))) == 1
    assert process(*late, f"--output={tmp_path}/one").returncode == 0
    assert_same_init(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_more_processes_than_tasks_are_refused(train, tmp_path):
    code, out, err = ended(launched(*train, "--training.meta-batch-size=1", f"--output={tmp_path}/init"))
    assert (code, out) == (1, "")
    assert re.search("2 processes .*meta_batch_size=1 .*--training.meta-batch-size", err)


@pytest.mark.slow
def test_all_processes_refuse_what_the_main_process_refuses(train, alone):
    before = (alone / "init.safetensors").read_bytes()
    code, out, err = ended(launched(*train, f"--output={alone}"))
    assert (code, out) == (1, "")
    # Both say so, unless the launcher ends one as soon as the other has.
    assert re.search("metawarp: error: output='.+' holds an earlier run", err)
    assert (alone / "init.safetensors").read_bytes() == before


ENDING = """
from pathlib import Path
import torch
from accelerate import PartialState
from metawarp.processes import Processes
Processes.connect("cpu")
torch.optim.AdamW([torch.ones(2, requires_grad=True)]).step()
PartialState().destroy_process_group()
print(*sorted(task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")))
"""
"""A program that joins a group, leaves it, and prints the names of its threads."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists threads there")
def test_a_run_leaves_no_thread_of_its_group(tmp_path):
    (tmp_path / "ending.py").write_text(ENDING)
    out = finished(program=[tmp_path / "ending.py"])
    assert "gloo" not in out and "python" in out


def test_one_process_does_everything(monkeypatch):
    assert SINGLE.is_main and SINGLE.count == 1
    assert list(SINGLE.share(3)) == [0, 1, 2]
    assert SINGLE.in_order("abc", 3) == ["a", "b", "c"]
    assert SINGLE.by_main(lambda: 7) == 7
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert Processes.connect("cpu") == Processes(device="cpu")


def test_each_of_two_processes_has_every_second_task():
    first, second = Processes(0, 2), Processes(1, 2)
    assert (list(first.share(5)), list(second.share(5))) == ([0, 2, 4], [1, 3])
    assert (first.is_main, second.is_main) == (True, False)


class Second:
    """The second of two processes, as Accelerate describes it."""

    _shared_state = {"known": True}
    num_processes, process_index, local_process_index = 2, 1, 1

    def __init__(self, cpu=False):
        pass


def test_several_processes_cannot_use_one_accelerator(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(processes, "PartialState", Second)
    with refused("device='cuda:0'", "2 processes", "device='cuda'"):
        Processes.connect("cuda:0")
    assert Processes.connect("cuda") == Processes(1, 2, 1, "cuda:1")
