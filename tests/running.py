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
    "--n-way=2", "--k-shot=1", "--n-query=2", "--training.steps=2", "--training.meta-batch-size=1",
    "--training.validate-every=2", "--training.validation-episodes=2", "--model.template={prompt:2} {text} {mask}",
]  # fmt: skip
"""Options of a training that takes a second on tiny texts."""


def refused(*facts: object, error: type[Exception] = InputError) -> pytest.RaisesExc[Exception]:
    """A context that expects an error whose message, one line, contains these facts in this order."""
    return pytest.raises(error, match="^" + "".join(f"[^\n]*{re.escape(str(fact))}" for fact in facts) + "[^\n]*$")


def failure(capsys, *arguments, code=2):
    """The message of a command that must fail with one line on stderr and nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return one_line(ended.value.code, out, err, code)


def one_line(code, out, err, expected_code=2):
    """The message of a failed command, from its exit code and output."""
    assert (code, out) == (expected_code, "")
    assert re.fullmatch(r"metawarp: error: [^\n]+\n", err), err
    return err.removeprefix("metawarp: error: ").removesuffix("\n")


def process(*arguments, code=None, stdin=None, **environment):
    """A finished process of the command line, or of Python `code` with these arguments and this standard input."""
    program = ["-m", "metawarp"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        input=stdin,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )


def started(*arguments):
    """A running Python program, in a session of its own."""
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


def until(condition, running=None):
    """Wait until a condition is true, at most two minutes and while a program runs; returns whether it became true."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() >= deadline or (running and running.poll() is not None):
            return False
        time.sleep(0.01)
    return True


def write_rows(file, corpus):
    """Write a corpus as a .jsonl file; returns the path."""
    rows = zip(corpus.texts, corpus.labels, strict=True)
    lines = [json.dumps({"text": text, "label": corpus.class_names[label]}) for text, label in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


class Killed:
    """A sampler that ends the run when episode `last` is requested."""

    def __init__(self, sampler, last):
        self.sampler, self.last = sampler, last

    def __getitem__(self, i):
        if i >= self.last:
            raise KeyboardInterrupt
        return self.sampler[i]
