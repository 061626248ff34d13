"""Commands that are killed at every file operation: what they leave is the old output, or what they were told to do.

Each command runs in a process that kills itself before its n-th operation on a file of the output, for n = 1, 2, …
until it ends by itself; or in one that finds the disk full from then on. Afterwards the old output is complete, and
the command, repeated as its messages say, gives the output of an uninterrupted run.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from running import SMALL
from safetensors import safe_open

from metawarp import Init, Task
from metawarp.cli import main
from metawarp.output_folder import LOCK, UNFINISHED

pytestmark = pytest.mark.slow

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
MOST_OPERATIONS = 200


def run(command, output, fault=None, before=0):
    """Run a command in a process in which a fault occurs before an operation; returns its exit code and its message."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        with open(read, encoding="utf-8") as messages:
            text = messages.read()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return status, text
    code = 1
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        if fault is not None:
            sys.addaudithook(failing(Path(output), fault, before))
        main(command)
        code = 0
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def kill(writes):
    """The fault of a process that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk(writes):
    """The fault of a disk that is full: files can be removed and moved, and not written."""
    if writes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing(output, fault, number):
    """An audit hook in which a fault occurs before each change of the output, from the given number on."""
    left = number

    def hook(event, arguments):
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int)
        writes = opened and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES) or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = Path(os.fsdecode(arguments[0]))
        if path.name == LOCK or not (path.is_relative_to(output) or path.parent == output.parent):
            return
        left -= 1
        if left <= 0:
            fault(writes or event == "os.mkdir")

    return hook


def content(output):
    """The files of an output, without what differs between two runs: seconds, and the lock."""
    if output.is_file():
        return {output.name: output.read_bytes()}
    files = {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*") if file.is_file()}
    files.pop(LOCK, None)
    for name, data in files.items():
        if name == "log.jsonl":
            rows = [json.loads(line) | {"tasks_per_second": 0} for line in data.splitlines()]
            files[name] = json.dumps(rows).encode()
        if name == "checkpoint.safetensors":  # its header has no fixed order
            with safe_open(output / name, framework="pt") as opened:
                files[name] = sorted(opened.metadata().items())
        if name == "config.json":
            config = json.loads(data)
            del config["config_sha256"]
            if config.get("adaptation"):
                config["adaptation"]["seconds"] = 0
            files[name] = json.dumps(config).encode()
    files.pop("learning_curve.png", None)
    return files


@pytest.fixture(scope="module")
def data(material):
    """Corpus, backbone, init and task for the commands, and texts with other labels."""
    (material / "more.csv").write_text("text,label\nplay music,song\nmusic now,song\nrain today,sun\ncold rain,sun\n")
    return material


def commands(data):
    """The commands by name, each with the one that made the old output, if there is one."""
    train = [
        "train",
        f"--corpus={data}/tiny.jsonl",
        f"--backbone={data}/backbone",
        *SMALL,
        "--training.checkpoint-every=1",
    ]
    fit = ["fit", f"--init={data}/init", f"--data={data}/few.csv"]
    predict = ["predict", f"--task={data}/task", "--text=music", "--text=rain"]
    other_fit = ["fit", f"--init={data}/init", f"--data={data}/more.csv"]
    evaluate = ["evaluate", f"--init={data}/init", f"--corpus={data}/tiny.jsonl", "--split=all", "--n-way=2",
                "--n-query=2", "--episodes=2", "--baselines=none"]  # fmt: skip
    return {
        "fit": (fit, None),
        "fit --overwrite": ([*fit, "--overwrite"], other_fit),
        "train": (train, None),
        "train --overwrite": ([*train, "--overwrite"], [*train, "--seed=1"]),
        "train --resume": ([*train, "--resume"], train),
        "predict": (predict, None),
        "predict --overwrite": ([*predict, "--overwrite"], [*predict, "--text=more"]),
        "predict to a table": (predict, None),
        "evaluate": (evaluate, None),
        "export": (["export", f"--task={data}/task"], None),
    }


@pytest.mark.parametrize("fault", [kill, fill_disk])
@pytest.mark.parametrize("name", list(commands(Path())))
def test_a_command_that_is_killed_or_finds_the_disk_full_loses_nothing(name, fault, data, tmp_path):
    command, earlier = commands(data)[name]
    ending = {"predict to a table": ".csv", "export": ".onnx"}.get(name, "")
    output = tmp_path / "whole" / f"out{ending}"
    output.parent.mkdir()

    def prepared(place):
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir()
        if earlier is not None:
            assert run([*earlier, f"--output={place}"], place)[0] == 0
        return content(place) if earlier is not None else None

    prepared(output)
    assert run([*command, f"--output={output}"], output)[0] == 0
    expected, failures, number = content(output), [], 0
    place = tmp_path / "killed" / f"out{ending}"
    old = prepared(place)
    for number in range(1, MOST_OPERATIONS):
        shutil.rmtree(tmp_path / "killed")
        (tmp_path / "killed").mkdir()
        if earlier is not None:
            run([*earlier, f"--output={place}"], place)
        status, message = run([*command, f"--output={place}"], place, fault, number)
        if status == 0:
            break
        problem = None if status < 0 or message.count("metawarp: error: ") == 1 else message
        if problem := problem or after_fault([*command, f"--output={place}"], place, old, expected):
            failures.append((number, problem))
    print(f"{name}: {number - 1} times {fault.__name__}, {len(failures)} failures")
    assert number > 2 and not failures, failures


def after_fault(command, place, old, expected):
    """What is wrong after a fault, and after the command was repeated as its message says; None if nothing is."""
    if old is not None and not readable(place):
        return "the output cannot be read"
    for attempt in range(3):
        status, message = run(command, place)
        if status == 0:
            break
        if "--resume" in message:
            command = [*(one for one in command if one != "--overwrite"), "--resume"]
        elif "--overwrite" in message:
            command = [*(one for one in command if one != "--resume"), "--overwrite"]
        else:
            return f"attempt {attempt}: {message}"
    found = content(place)
    if found != expected:
        names = found.keys() | expected.keys()
        return f"other content: {sorted(name for name in names if found.get(name) != expected.get(name))}"
    rest = [file.name for file in place.parent.rglob("*") if file.name.endswith(".part") or file.name == UNFINISHED]
    return f"left: {rest}" if rest else None


def readable(place):
    """Whether an init or a task in a folder can be loaded; other outputs are files."""
    if place.is_file():
        return True
    try:
        (Task if (place / "task.safetensors").exists() or (place / "fitted_from").exists() else Init).load(place)
    except Exception as error:
        print(error)
        return False
    return True


@pytest.mark.parametrize("seed", range(10))
def test_a_chain_of_killed_trainings_gives_the_init_of_one_that_was_not_killed(seed, data, tmp_path):
    train = [*commands(data)["train"][0], "--training.steps=6"]
    whole, place, draw = tmp_path / "whole", tmp_path / "chain" / "out", random.Random(seed)
    assert run([*train, f"--output={whole}"], whole)[0] == 0
    place.parent.mkdir()
    kills = []
    for _ in range(5):
        resume = ["--resume"] if (place / UNFINISHED / "checkpoint.safetensors").exists() else []
        kills.append(draw.randint(1, 25))
        status, message = run([*train, *resume, f"--output={place}"], place, kill, kills[-1])
        assert status in (0, -signal.SIGKILL), message
    problem = after_fault([*train, f"--output={place}"], place, None, content(whole))
    assert problem is None, (kills, problem)


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_trainings_into_one_folder_do_not_mix(overwrite, data, tmp_path):
    train = ["train", f"--corpus={data}/tiny.jsonl", f"--backbone={data}/backbone", *SMALL]
    train += ["--overwrite"] * overwrite
    expected = []
    for seed in range(2):
        run([*train, f"--seed={seed}", f"--output={tmp_path}/{seed}"], tmp_path / str(seed))
        expected.append(content(tmp_path / str(seed)))
    refused = 0
    for attempt in range(10):
        place, answers = tmp_path / "both" / str(attempt) / "out", [(1, ""), (1, "")]

        def start(seed, place=place, answers=answers):
            answers[seed] = run([*train, f"--seed={seed}", f"--output={place}"], place)

        threads = [threading.Thread(target=start, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = [status for status, _ in answers]
        assert sorted(ended) == [0, 2] or (overwrite and ended == [0, 0]), answers
        refused += 2 in ended
        found = content(place)
        assert found in expected
        if 2 in ended:
            assert found == expected[ended.index(0)]
    print(f"two trainings, overwrite={overwrite}: {refused} of 10 times one was refused, no mixture")
