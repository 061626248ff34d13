"""Commands on the files of the fixture `made`, and the facts in the messages of those that must fail."""

import re

from running import SMALL, failure


def train(made, corpus, *more):
    return ["train", f"--corpus={corpus}", f"--backbone={made}/backbone", *SMALL, *more]


def evaluate(folder, *more, corpus=None, init=None):
    return ["evaluate", f"--init={init or folder / 'init'}", f"--corpus={corpus or folder / 'tiny.jsonl'}",
            "--split=all", "--n-way=2", "--n-query=2", "--episodes=2", "--baselines=none", *more]  # fmt: skip


def fit(folder, data, *more):
    return ["fit", f"--init={folder}/init", f"--data={data}", f"--output={folder}/task", *more]


def refusal(capsys, arguments, *facts):
    """Check that the message of a command that must fail has these facts in this order."""
    message = failure(capsys, *arguments)
    assert re.search(".*".join(re.escape(str(fact)) for fact in facts), message), message
