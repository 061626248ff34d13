"""What is tested has no part in what it is tested with."""

import json
import re
import shutil

from benchmarks.run import run_plan
from benchmarks.runner.corpora import load_corpus
from benchmarks.runner.plan import Setting
from benchmarks.runner.training import train_for
from benchmarks.tests.conftest import NAMES
from benchmarks.tests.test_plan import cells
from metawarp import Init
from metawarp.adaptation.temperature import Temperature


def test_texts_of_test_classes_have_no_part_in_an_init(write_plan, data, tmp_path):
    (cell,) = cells(write_plan.table())
    inits = []
    for prefix in ("", "something else "):
        folder = tmp_path / f"data {prefix}"
        shutil.copytree(data, folder)
        tested = set(json.loads((folder / "one" / "splits.json").read_text())["test"])
        rows = [json.loads(line) for line in (folder / "one" / "data.jsonl").read_text().splitlines()]
        for row in rows:
            row["text"] = prefix * (row["label"] in tested) + row["text"]
        (folder / "one" / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        inits.append(Init.load(train_for(cell, folder, folder / "out")))
    assert inits[0].fingerprint == inits[1].fingerprint
    assert inits[0].temperature == inits[1].temperature != Temperature()


def test_no_tested_class_was_trained_or_chosen_on(done, data):
    for training in (done[0] / "trainings").iterdir():
        names = Init.load(training).training["class_names"]
        for name in NAMES:
            tested = set(load_corpus(name, data)[1].test.class_names)
            assert tested.isdisjoint(names["train"]) and tested.isdisjoint(names["validation"])


def test_tested_classes_that_another_corpus_trains_on_are_named(write_plan, data, tmp_path):
    """Both corpora have the same class names; here the other one trains on classes that this one tests."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    parts = json.loads((folder / "one" / "splits.json").read_text())
    moved = {"train": parts["test"] + parts["validation"][:1], "validation": parts["train"][:2]}
    moved["test"] = parts["validation"][1:] + parts["train"][2:]
    (folder / "other" / "splits.json").write_text(json.dumps(moved))
    plan = write_plan.table(corpora=["one", "other"], contenders={"elsewhere": {"train_on": "others"}})
    results = run_plan(plan, tmp_path / "out", data=folder)
    contender = results["tables"]["t"]["corpora"]["one"]["s"]["contenders"]["elsewhere"]
    assert contender["classes_seen_in_training"] == sorted(parts["test"])
    assert re.search(r"\| elsewhere \| [^|]+† \|", (tmp_path / "out" / "report.md").read_text())


def test_parts_of_a_corpus_and_of_an_episode_share_no_text(data):
    for name in NAMES:
        _, split = load_corpus(name, data)
        texts = [set(split[part].texts) for part in ("train", "validation", "test")]
        assert len(set.union(*texts)) == sum(map(len, texts))
        sampler = Setting(n_way="all", k_shot=2, n_query=2).sampler(split.test)
        for i in range(20):
            assert set(sampler[i].support_texts).isdisjoint(sampler[i].query_texts)


def test_the_queries_of_a_setting_do_not_depend_on_the_number_of_shots(data):
    _, split = load_corpus("one", data)
    few, many = (Setting(n_way=2, k_shot=k, n_query=2).sampler(split.test) for k in (0, 3))
    for i in range(10):
        assert few[i].query.tolist() == many[i].query.tolist()
