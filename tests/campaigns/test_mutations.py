"""Damaged and hostile files of every format: each is refused in one sentence, or is valid.

Bytes of a good file are flipped, removed, repeated, moved or replaced by what breaks readers: quotes, brackets, zeros,
numbers without end, aliases. In a config.json, values are replaced by others as well, and its checksum is computed
again; inits and tasks that are accepted are then used. The seeds are printed; a failure can be repeated with its seed.
"""

import gzip
import json
import os
import random
import resource
import shutil
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from benchmarks.runner.plan_file import read_plan
from episodes import Corpus, InputError
from metawarp import Backbone, Init, Task, WarpClassifier
from metawarp.commands.config_file import check_config_file
from metawarp.evaluation.evaluate import classes_seen_in_training
from metawarp.inits.model_card import read_results
from metawarp.inits.peft_adapter import load_adapter, save_adapter
from metawarp.inits.storage import CHECKSUM, checksum
from metawarp.training.run_folder import RunFolder
from metawarp.yaml_file import read_yaml

pytestmark = pytest.mark.slow

NUMBER = int(os.environ.get("METAWARP_MUTATIONS", "700"))
"""Mutations of each kind of file."""

MOST_SECONDS = 10
MOST_BYTES = 2**30

TOKENS = [b'"', b"'", b"\0", b"\n", b",", b"\t", b"{", b"}", b"[", b"]", b"[" * 200, b"&a *a", b": ", b"- ", b"-1"]
TOKENS += [b"1e999", b"NaN", b"9" * 400, b"null", b"true", b"\xff\xfe", b"\xed\xa0\x80", "é\u2028".encode()]
TOKENS += [b"!!python/name:os", b"../../etc", b"<script>"]


VALUES = [
    None,
    True,
    -1,
    0,
    1,
    7,
    10**6,
    10**12,
    10**400,
    0.5,
    -1e308,
    "",
    "x",
    "\x1b[31m",
    "é" * 2000,
    "{text}",
    "../..",
    "U9",
]
VALUES += [
    "mask",
    "lora",
    "prompt_pool",
    "{prompt:900} {text}",
    [],
    [1],
    ["a", "a"],
    [[1, 2], [3]],
    {},
    {"a": 1},
    {"train": [1]},
]


def other_values(data, draw):
    """The bytes of a config.json with one to three other values, and its checksum."""
    config = json.loads(data)
    for _ in range(draw.randint(1, 3)):
        inside, key = config, draw.choice(list(config))
        while isinstance(inside[key], dict | list) and inside[key] and draw.random() < 0.9:
            inside = inside[key]
            key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside[key] = deepcopy(draw.choice(VALUES))
    config[CHECKSUM] = checksum(config)
    return json.dumps(config).encode()


def mutated(data, draw):
    """The bytes after one to four random changes."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = draw.choice([1, 2, 8, 64])
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length] * draw.randint(1, 20)
        elif kind == 3:
            data[at:at] = draw.choice(TOKENS)
        elif kind == 4:
            data[at : at + length] = draw.choice(TOKENS)
        else:
            del data[at:]
    return bytes(data)


@pytest.fixture(scope="module")
def files(material):
    """Good files of every format, each with the function that reads it."""
    folder = material
    backbone = Backbone.load(folder / "backbone")
    texts, labels = ['a, "b"', "two\nlines", "three", "four"], ["x", "y", "x", "y"]
    (folder / "a.csv").write_text('text,label\n"a, ""b""",x\n"two\nlines",y\nthree,x\nfour,y\n')
    (folder / "a.tsv").write_text('text\tlabel\n"a"\tx\ntwo\ty\nthree\tx\nfour\ty\n')
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = pyarrow.table({"text": texts, "label": [0, 1, 0, 1]})
    features = {"label": {"names": ["x", "y"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    (folder / "config.yaml").write_text("task: tasks/one\ntext: [a, b]\ntop: 3\noverwrite: true\n")
    plan = Path(__file__).parents[2] / "benchmarks/plans/adapters.yaml"
    (folder / "plan.yaml").write_bytes(plan.read_bytes())
    for name in ("init", "task"):  # of an earlier release, which had no checksum of the settings
        shutil.copytree(folder / name, folder / f"old-{name}")
        config = json.loads((folder / name / "config.json").read_text())
        del config[CHECKSUM]
        (folder / f"old-{name}" / "config.json").write_text(json.dumps(config))
    corpus = Corpus.load(folder / "tiny.jsonl")
    save_adapter(Init.load(folder / "init"), backbone, folder / "peft")

    shutil.copy(folder / "init/checkpoint.safetensors", folder / "checkpoint.safetensors")
    with gzip.open(folder / "a.csv.gz", "wb") as packed:
        packed.write((folder / "a.csv").read_bytes())
    (folder / "results.json").write_text('{"protocol": {"seed": 1}, "methods": {"a": {"accuracy": 0.5, "ci95": 0.1}}}')

    def use_init(file):
        init = Init.load(file.parent)
        classes_seen_in_training(init, corpus)
        model = WarpClassifier(init, backbone, any_backbone=True).fit(["a b", "c d", "e", "f"], ["x", "y", "x", "y"])
        assert np.isfinite(model.predict_proba(["a text"])).all()

    def use_task(file):
        task = Task.load(file.parent, backbone)
        assert np.isfinite(task.predict_proba(["a text"])).all() and len(task.predict(["a text"])) == 1

    def read_config(file):
        check_config_file(str(file), {"task": str, "text": list[str], "top": int | None, "overwrite": bool})
        return read_yaml(file)

    return {
        **{f"a.{ending}": Corpus.load for ending in ("csv", "tsv", "json", "jsonl", "parquet", "csv.gz")},
        "results.json": read_results,
        "checkpoint.safetensors": lambda file: RunFolder(file.parent).load(torch.device("cpu")),
        "values of init/config.json": use_init,
        "values of task/config.json": use_task,
        "values of task/fitted_from/config.json": lambda file: use_task(file.parent),
        "config.yaml": read_config,
        "plan.yaml": read_plan,
        "init/splits.json": corpus.split_classes,
        "init/config.json": lambda file: Init.load(file.parent).bind(backbone),
        "init/init.safetensors": lambda file: Init.load(file.parent).bind(backbone),
        "task/config.json": lambda file: Task.load(file.parent, backbone),
        "task/task.safetensors": lambda file: Task.load(file.parent, backbone),
        "task/fitted_from/config.json": lambda file: Task.load(file.parent.parent, backbone),
        "old-init/config.json": lambda file: Init.load(file.parent).bind(backbone),
        "old-task/config.json": lambda file: Task.load(file.parent, backbone).predict(["a text"]),
        "peft/adapter_config.json": lambda file: load_adapter(file.parent, backbone),
        "peft/adapter_model.safetensors": lambda file: load_adapter(file.parent, backbone),
    }, folder


NAMES = [f"a.{ending}" for ending in ("csv", "tsv", "json", "jsonl", "parquet", "csv.gz")]
NAMES += ["results.json", "checkpoint.safetensors"]
NAMES += [f"values of {place}/config.json" for place in ("init", "task", "task/fitted_from")]
NAMES += ["config.yaml", "plan.yaml", "init/splits.json", "init/config.json", "init/init.safetensors"]
NAMES += ["task/config.json", "task/task.safetensors", "task/fitted_from/config.json", "old-init/config.json"]
NAMES += ["old-task/config.json", "peft/adapter_config.json", "peft/adapter_model.safetensors"]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_in_one_sentence(name, files):
    readers, folder = files
    change, file = (other_values if name.startswith("values") else mutated), folder / name.removeprefix("values of ")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path != file}
    read, write = os.pipe()
    process = os.fork()  # a reader that crashes ends the child alone
    if not process:
        code = 1
        try:
            os.close(read)
            torch.set_num_threads(1)  # the threads of the parent do not exist here
            with os.fdopen(write, "w") as out:
                for line in failures(file, readers[name], change):
                    out.write(line + "\n")
                    out.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, encoding="utf-8") as found:
        *problems, summary = found.read().splitlines() or ["the reader ended"]
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(f"{name}: {summary}")
    assert status == 0 and not problems, (status, problems[:5], summary)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path != file}
    assert after == before, "reading changes no file"


def failures(file, reader, change):
    """What is wrong with the answers to mutations, and a summary in the last line."""
    good, refused, slowest = file.read_bytes(), 0, 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(NUMBER):
        file.write_bytes(change(good, random.Random(seed)))
        began = time.perf_counter()
        try:
            reader(file)
        except InputError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > 3000:
                yield f"seed {seed}: the message is no sentence: {str(error)[:300]!r}"
        except BaseException as error:
            yield f"seed {seed}: {type(error).__name__}: {str(error)[:300]!r}"
        seconds = time.perf_counter() - began
        slowest = max(slowest, seconds)
        if seconds > MOST_SECONDS:
            yield f"seed {seed}: {seconds:.0f} seconds"
    file.write_bytes(good)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
    if grown > MOST_BYTES:
        yield f"{grown / 2**20:.0f} MiB of memory"
    yield f"{NUMBER} mutations, seeds 0 to {NUMBER - 1}: {refused} refused; slowest {slowest:.2f} s"
