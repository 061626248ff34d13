"""Runs of the command line, and the messages that they end with."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from episodes import InputError
from metawarp.cli import main

SMALL = [
    "--n-way=2", "--k-shot=1", "--n-query=2", "--steps=2", "--training.meta_batch=1", "--training.validate_every=2",
    "--training.validation_episodes=2", "--warp.template={prompt:2} {text} {mask}",
]  # fmt: skip
"""Options of a training that takes a second on tiny texts."""


def refused(message, error=InputError):
    """A context that expects an error with exactly this message."""
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def failure(capsys, *arguments):
    """The message of a command that must end with exit code 2 and one line on stderr; nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return one_line(ended.value.code, out, err)


def one_line(code, out, err):
    """The message of a failed command, given what it left behind."""
    assert (code, out) == (2, "")
    assert re.fullmatch(r"metawarp: error: [^\n]+\n", err), err
    return err.removeprefix("metawarp: error: ").removesuffix("\n")


def process(*arguments, code=None, **environment):
    """A real process of the command line, or of some `code` that gets these arguments."""
    program = ["-m", "metawarp"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def started(*arguments):
    """A Python program that is running, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def ended(running):
    """Exit code, stdout and stderr of a program, when it has ended."""
    out, err = running.communicate(timeout=300)
    return running.returncode, out, err


def until(true, running=None):
    """Wait for something to be true, two minutes at most, and while a program runs; whether it came true."""
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() >= deadline or (running and running.poll() is not None):
            return False
        time.sleep(0.01)
    return True


def write_rows(file, corpus):
    """A corpus as a .jsonl file; returns the path."""
    rows = zip(corpus.texts, corpus.labels, strict=True)
    lines = [json.dumps({"text": text, "label": corpus.class_names[label]}) for text, label in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def log_of(folder):
    """The entries of a run's log, one for each step."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


class Killed:
    """A sampler that ends the run when episode `last` is asked for."""

    def __init__(self, sampler, last):
        self.sampler, self.last = sampler, last

    def __getitem__(self, i):
        if i >= self.last:
            raise KeyboardInterrupt
        return self.sampler[i]
