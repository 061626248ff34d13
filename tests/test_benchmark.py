"""The benchmark: what a plan asks for is measured once, without leaks, and reported whole."""

import json
import os
import re
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from running import ended, refused, started, until, write_rows
from tiny import NO_STEPS, tiny_corpus, tiny_folder

from episodes import InputError
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.temperature import Temperature
from metawarp.benchmark.cells import _cut, _reader, sampler_of, train_for
from metawarp.benchmark.keys import cell_key, load, reader_key, training_key
from metawarp.benchmark.plan import Contender, Setting, cells_of
from metawarp.benchmark.plan_file import read_plan
from metawarp.benchmark.report import calibrations_of, costs_of
from metawarp.benchmark.report_plots import PLOTS
from metawarp.benchmark.run import benchmark
from metawarp.cli import main
from metawarp.meta_learning.meta_gradients import inner_loop

ROOT = Path(__file__).parent.parent
NAMES = ("one", "other")


def table_of(**changes):
    return {"t": {"title": "t", "corpora": ["one"], "settings": {"s": {}}, "contenders": {"c": {}}, **changes}}


LEAST = {"tables": table_of()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two corpora as a benchmark finds them, and a tiny backbone beside them."""
    folder = tmp_path_factory.mktemp("data")
    tiny_folder(folder / "backbone")
    for seed, name in enumerate(NAMES):
        corpus = tiny_corpus(n_classes=8, seed=seed)
        (folder / name).mkdir()
        write_rows(folder / name / "data.jsonl", corpus)
        names = list(np.random.default_rng(0).permutation(corpus.class_names))  # the same classes in both parts of both
        parts = {"train": names[:3], "validation": names[3:5], "test": names[5:]}
        (folder / name / "splits.json").write_text(json.dumps(parts))
    return folder


def plan_of(data, tmp_path, **changes):
    """A plan with a table of every kind of contender, changed by top-level keys."""
    content = {
        "training": {
            "backbone": str(data / "backbone"),
            "method": "prototypical",
            "n_way": 3,
            "k_shot": [0, 2],
            "n_query": 2,
            "warp": {"template": "{prompt:2} {text} {mask}"},
            "steps": 2,
            "training": {"meta_batch": 1, "validate_every": 1, "validation_episodes": 2},
        },
        "setting": {"n_way": 2, "n_query": 2, "episodes": 6},
        "tables": {
            "main": {
                "title": "Everybody",
                "corpora": list(NAMES),
                "plots": list(PLOTS),
                "settings": {"0-shot": {"k_shot": 0}, "all": {"n_way": "all", "k_shot": 2, "wrong_labels": 0.4}},
                "contenders": {
                    "learned": {"seeds": [0, 1]},
                    "elsewhere": {"train_on": "others"},
                    "untrained": {"meta_trained": False},
                    "names": {"baseline": "prototypes+names"},
                    "regression": {"baseline": "logistic-regression"},
                },
            }
        },
        "search": "on validation classes, by hand",
        **changes,
    }
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    return folder, benchmark(plan_of(data, folder), str(folder / "out"), data=str(data))


def test_every_contender_is_measured_in_every_setting_it_can_be(done):
    _, results = done
    for corpus in NAMES:
        settings = results["tables"]["main"]["corpora"][corpus]
        assert list(settings["0-shot"]["contenders"]) == ["learned", "elsewhere", "untrained", "names"]
        assert list(settings["all"]["contenders"]) == ["learned", "elsewhere", "untrained", "names", "regression"]
        for setting in settings.values():
            for found in setting["contenders"].values():
                assert len(found["per_episode"]) == 6
                assert found["accuracy"] == pytest.approx(np.mean(found["per_episode"]), abs=1e-6)
                by_training = np.array(found["per_episode_by_training"])
                assert by_training.mean(0) == pytest.approx(found["per_episode"], abs=2e-6)
                assert by_training.mean(1) == pytest.approx(found["by_training"], abs=2e-6)
                assert np.mean(found["macro_f1_per_episode"]) == pytest.approx(found["macro_f1"], abs=2e-6)
                assert found["seconds_a_task"] > 0 and found["peak_megabytes"] >= 0 and found["numbers_a_task"] > 0
            assert setting["best_baseline"] in ("names", "regression")
            assert set(setting["paired"]) == set(setting["contenders"]) - {setting["best_baseline"]}
        assert len(settings["all"]["contenders"]["learned"]["by_training"]) == 2


def test_results_say_how_they_were_measured(done, data):
    protocol, table = done[1]["protocol"], done[1]["tables"]["main"]
    assert protocol["search"] == "on validation classes, by hand"
    for name in NAMES:
        corpus, split = load(name, str(data))
        assert protocol["corpora"][name] == {
            "fingerprint": corpus.fingerprint,
            "test_classes": list(split.test.class_names),
        }
    assert protocol["versions"]["torch"] == torch.__version__
    assert table["settings"]["all"]["n_way"] == "all" and table["settings"]["all"]["episodes"] == 6
    learned = table["corpora"]["one"]["all"]["contenders"]["learned"]
    stored = {Init.load(folder).fingerprint for folder in (done[0] / "out" / "trainings").iterdir()}
    assert len(learned["init_sha256"]) == 2 and set(learned["init_sha256"]) <= stored


def test_probabilities_are_weighed_over_all_trainings(done):
    setting = done[1]["tables"]["main"]["corpora"]["one"]["all"]["contenders"]
    assert sum(b["number"] for b in setting["learned"]["reliability"]) == 2 * 6 * 3 * 2  # trainings, episodes, queries
    assert 0 <= setting["learned"]["calibration_error"] <= 1
    header, *rows = next(calibrations_of(done[1]["tables"]["main"]))
    assert header == ["one, expected calibration error (%)", "0-shot", "all"]
    assert rows[0] == [
        "learned",
        *(
            f"{100 * s['contenders']['learned']['calibration_error']:.1f}"
            for s in done[1]["tables"]["main"]["corpora"]["one"].values()
        ),
    ]


def test_differences_are_paired_with_the_best_baseline(done):
    setting = done[1]["tables"]["main"]["corpora"]["one"]["all"]
    assert setting["compared_with"] == setting["best_baseline"]
    best, mine = (np.array(setting["contenders"][n]["per_episode"]) for n in (setting["best_baseline"], "untrained"))
    assert setting["paired"]["untrained"]["difference"] == pytest.approx((mine - best).mean())
    assert all(0 <= paired["p_holm"] <= 1 for paired in setting["paired"].values())


def test_or_with_the_contender_that_a_table_names(data, tmp_path):
    contenders = {"names": {"baseline": "prototypes+names"}, "start": {"meta_trained": False}}
    table = table_of(contenders=contenders, compare_with="start")
    plan = plan_of(data, tmp_path, tables=table)
    found = benchmark(plan, str(tmp_path / "out"), data=str(data))["tables"]["t"]["corpora"]["one"]["s"]
    assert (found["best_baseline"], found["compared_with"], list(found["paired"])) == ("names", "start", ["names"])
    names, start = (np.array(found["contenders"][name]["per_episode"]) for name in ("names", "start"))
    assert found["paired"]["names"]["difference"] == pytest.approx((names - start).mean())


def test_of_an_init_it_is_known_how_large_it_is_and_how_long_a_task_of_its_training_takes(done):
    folder, results = done
    found = results["tables"]["main"]["corpora"]["one"]["all"]["contenders"]
    for training in (folder / "out" / "trainings").iterdir():
        if Init.load(training).fingerprint in found["learned"]["init_sha256"]:
            numbers = sum(tensor.numel() for tensor in Init.load(training).tensors.values())
            assert found["learned"]["numbers_learned"] == numbers == found["untrained"]["numbers_learned"]
    assert found["learned"]["training_seconds_a_task"] > 0
    assert "training_seconds_a_task" not in found["untrained"] and "numbers_learned" not in found["names"]
    header, *rows = next(costs_of(results["tables"]["main"]))
    assert header[-2:] == ["numbers of the init", "seconds of a training task"]
    assert {row[0]: row[-1] != "–" for row in rows} == {
        name: "training_seconds_a_task" in one for name, one in found.items()
    }


def test_a_confusion_matrix_counts_every_query(done):
    found = done[1]["tables"]["main"]["corpora"]["one"]["all"]["contenders"]["learned"]
    counts = np.array(found["confusion"])
    assert counts.sum(1).tolist() == [12, 12, 12]  # 3 classes, 2 queries of each in 6 episodes
    assert np.trace(counts) / counts.sum() == pytest.approx(found["by_training"][0])


def test_the_folder_holds_what_was_returned_and_two_reports(done, data):
    folder, results = done
    assert json.loads((folder / "out" / "results.json").read_text()) == results
    markdown, page = ((folder / "out" / f"report.{kind}").read_text() for kind in ("md", "html"))
    for word in ("Everybody", "learned", "0-shot", "regression"):
        assert word in markdown
        assert word in page
    assert page.count("data:image/png;base64,") == len(PLOTS)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "nothing that the page needs is outside of it"
    assert str(data) not in (folder / "out" / "results.json").read_text() + page


def test_nothing_is_measured_twice_and_what_is_missing_is_made_up(done, data, tmp_path):
    folder, results = done
    out = folder / "out"
    cells = sorted((out / "cells").iterdir())
    before = {file: file.stat().st_mtime_ns for file in cells}
    cells[0].unlink()
    again = benchmark(plan_of(data, tmp_path), str(out), data=str(data), workers=2)
    assert sorted((out / "cells").iterdir()) == cells
    assert [file for file in cells if file.stat().st_mtime_ns != before[file]] == [cells[0]]
    for corpus, settings in results["tables"]["main"]["corpora"].items():
        for at, setting in settings.items():
            for who, found in setting["contenders"].items():
                same = again["tables"]["main"]["corpora"][corpus][at]["contenders"][who]
                assert same["per_episode"] == found["per_episode"], (corpus, at, who)


def test_results_of_something_else_are_left_alone(data, tmp_path):
    (tmp_path / "results.json").write_text("mine")
    plan = plan_of(data, tmp_path, tables=table_of(contenders={"names": {"baseline": "prototypes+names"}}))
    with refused(
        f"results.json in the folder {str(tmp_path)!r} is not of a metawarp-benchmark and is left alone; "
        "choose another folder."
    ):
        benchmark(plan, str(tmp_path), data=str(data))
    assert (tmp_path / "results.json").read_text() == "mine"


def test_a_training_killed_before_its_first_checkpoint_is_begun_again(data, tmp_path):
    (cell,) = (cell for *_, cell in cells_of(read_plan(plan_of(data, tmp_path, tables=table_of())).tables["t"]))
    whole = Init.load(train_for(cell, str(data), tmp_path / "whole"))
    killed = tmp_path / "killed" / training_key(cell, str(data))
    killed.mkdir(parents=True)
    for name in ("config.json", "splits.json"):
        (killed / name).write_text((tmp_path / "whole" / killed.name / name).read_text())
    assert Init.load(train_for(cell, str(data), tmp_path / "killed")).fingerprint == whole.fingerprint


def test_an_untrained_contender_is_the_start_of_its_own_training(data, tmp_path):
    noise = {"warp": {"template": "{prompt:2} {text} {mask}", "prompt_start": "normal"}}
    contenders = {"c": {"meta_trained": False, "seeds": [0, 1], "training": noise}}
    cells = [
        c for *_, c in cells_of(read_plan(plan_of(data, tmp_path, tables=table_of(contenders=contenders))).tables["t"])
    ]
    one, other = (_reader(cell, str(data), None)[0].tensors["prompt"] for cell in cells)
    assert not one.equal(other)


# Leaks ------------------------------------------------------------------------------------------------------------


def test_texts_of_test_classes_have_no_part_in_an_init(data, tmp_path):
    """Not in its tensors, and not in its temperature: other ones give the same files."""
    found = []
    for number in (0, 1):
        folder = tmp_path / str(number)
        shutil.copytree(data, folder)
        tested = set(json.loads((folder / "one" / "splits.json").read_text())["test"])
        rows = [json.loads(line) for line in (folder / "one" / "data.jsonl").read_text().splitlines()]
        for place, row in enumerate(rows):
            if row["label"] in tested and number:
                row["text"] = f"something else {place} {row['text']}"
        (folder / "one" / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plan = read_plan(plan_of(data, tmp_path, tables=table_of()))
        (cell,) = (cell for *_, cell in cells_of(plan.tables["t"]))
        found.append(Init.load(train_for(cell, str(folder), folder / "out")))
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].temperature == found[1].temperature != Temperature()


def test_no_class_that_is_tested_was_trained_or_chosen_on(done, data):
    folder, results = done
    for training in (folder / "out" / "trainings").iterdir():
        names = Init.load(training).training["class_names"]
        for name in NAMES:
            tested = set(load(name, str(data))[1].test.class_names)
            assert tested.isdisjoint(names["train"])
            assert tested.isdisjoint(names["validation"])
    for settings in results["tables"]["main"]["corpora"].values():
        for setting in settings.values():
            for found in setting["contenders"].values():
                assert found["classes_seen_in_training"] == []


def test_a_class_of_the_test_that_another_corpus_trains_on_is_named(data, tmp_path):
    """Both corpora have the same class names; here the other one trains on some that this one tests."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        rows = (data / name / "data.jsonl").read_text()
        (tmp_path / name / "data.jsonl").write_text(rows)
    parts = json.loads((data / "one" / "splits.json").read_text())
    (tmp_path / "one" / "splits.json").write_text(json.dumps(parts))
    turned = {"train": parts["test"] + parts["validation"][:1], "validation": parts["train"][:2]}
    turned["test"] = parts["validation"][1:] + parts["train"][2:]
    (tmp_path / "other" / "splits.json").write_text(json.dumps(turned))
    table = {
        "title": "t",
        "corpora": list(NAMES),
        "settings": {"s": {"k_shot": 1}},
        "contenders": {"elsewhere": {"train_on": "others"}},
    }
    plan = plan_of(data, tmp_path, tables={"main": table})
    found = benchmark(plan, str(tmp_path / "out"), data=str(tmp_path))
    elsewhere = found["tables"]["main"]["corpora"]["one"]["s"]["contenders"]["elsewhere"]
    assert elsewhere["classes_seen_in_training"] == sorted(parts["test"])
    assert re.search(r"\| elsewhere \| [^|]+† \|", (tmp_path / "out" / "report.md").read_text())


def test_its_processes_end_when_it_is_killed(data, tmp_path):
    plan = plan_of(data, tmp_path, tables=table_of(contenders={"c": {"training": {"steps": 10**6}, "seeds": [0, 1]}}))
    command = ["benchmark", "--plan", plan, "--output", str(tmp_path / "out"), "--data", str(data), "--workers", "2"]
    run = started("-m", "metawarp", *command)
    try:
        assert until(lambda: len(list((tmp_path / "out").glob("trainings/*/log.jsonl"))) == 2, run)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        assert until(lambda: not any(map(lives, workers)))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        ended(run)


def lives(process):
    """Whether a process has not ended, though nobody may have asked how."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_support_queries_and_splits_share_no_text(data):
    for name in NAMES:
        _, split = load(name, str(data))
        texts = [set(split[part].texts) for part in ("train", "validation", "test")]
        assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
        sampler = sampler_of(split.test, Setting(n_way="all", k_shot=2, n_query=2))
        for i in range(20):
            assert not set(sampler[i].support_texts) & set(sampler[i].query_texts)


def test_a_setting_gives_everybody_the_same_episodes_at_any_number_of_shots(data):
    _, split = load("one", str(data))
    few, many = (sampler_of(split.test, Setting(n_way=2, k_shot=k, n_query=2)) for k in (0, 3))
    for i in range(10):
        assert few[i].query.tolist() == many[i].query.tolist()


def test_a_setting_can_have_fewer_steps_uneven_shots_and_wrong_labels(data, tmp_path):
    settings = {
        "as trained": {},
        "no step": {"inner_steps": 0},
        "uneven": {"k_shot": [1, 4], "balanced": False},
        "wrong": {"wrong_labels": 0.5, "k_shot": 4},
    }
    contenders = {"learned": {"training": {"method": "anil", "warp": {"rows": "mix", "template": "{text} {mask}"}}}}
    plan = plan_of(data, tmp_path, tables=table_of(settings=settings, contenders=contenders))
    found = benchmark(plan, str(tmp_path / "out"), data=str(data))["tables"]["t"]["corpora"]["one"]
    plain, none = (found[at]["contenders"]["learned"] for at in ("as trained", "no step"))
    assert plain["init_sha256"] == none["init_sha256"] and plain["reliability"] != none["reliability"]
    assert list(found) == list(settings)
    shots = {
        shot
        for i in range(9)
        for shot in sampler_of(
            load("one", str(data))[1].test, Setting(n_way=2, k_shot=(1, 4), balanced=False, n_query=2)
        )[i].shots
    }
    assert len(shots) > 2


def test_an_init_that_is_there_is_measured_and_not_trained(done, data, tmp_path):
    trained = next((done[0] / "out" / "trainings").iterdir())
    contenders = {"there": {"init": str(trained)}, "cold": {"baseline": "warp-mask", "init": str(trained)}}
    plan = plan_of(data, tmp_path, tables=table_of(contenders=contenders))
    found = benchmark(plan, str(tmp_path / "out"), data=str(data))["tables"]["t"]["corpora"]["one"]["s"]["contenders"]
    assert found["there"]["init_sha256"] == found["cold"]["init_sha256"] == [Init.load(trained).fingerprint]
    assert list((tmp_path / "out").glob("trainings/*")) == []


def test_templates_are_trainings_of_one_contender(data, tmp_path):
    templates = ["{prompt:2} {text} {mask}", "{mask} {text} {prompt:2}", "{prompt:'a b'} {text} {mask}"]
    contenders = {"learned": {"templates": templates}, "cold": {"templates": templates, "meta_trained": False}}
    plan = plan_of(data, tmp_path, tables=table_of(contenders=contenders))
    cells = [cell for *_, cell in cells_of(read_plan(plan).tables["t"])]
    assert [cell.contender.training["warp"].template for cell in cells] == [*templates, *templates]
    found = benchmark(plan, str(tmp_path / "out"), data=str(data))["tables"]["t"]["corpora"]["one"]["s"]["contenders"]
    assert len(found["learned"]["init_sha256"]) == len(found["cold"]["by_training"]) == 3
    assert " over 3 |" in (tmp_path / "out" / "report.md").read_text()


def test_a_dtype_of_the_plan_is_what_inits_are_trained_and_everybody_is_read_in(data, tmp_path):
    half = {"dtype": "bfloat16"}
    names = {"baseline": "prototypes+names"}
    contenders = {"learned": {"training": half}, "names": names, "names in half": {**names, "training": half}}
    plan = read_plan(plan_of(data, tmp_path, tables=table_of(contenders=contenders)))
    cells = {who: cell for *_, who, cell in cells_of(plan.tables["t"])}
    trained = train_for(cells["learned"], str(data), tmp_path)
    assert Init.load(trained).training["dtype"] == "bfloat16"
    _, warp, encode = _reader(cells["learned"], str(data), trained)
    assert (warp.backbone.dtype, encode.warp.backbone.dtype) == (torch.bfloat16, torch.bfloat16)
    assert reader_key(cells["names"], str(data)) != reader_key(cells["names in half"], str(data))


# Plans ------------------------------------------------------------------------------------------------------------


def test_others_are_all_corpora_of_the_table_but_the_tested_one(data, tmp_path):
    table = read_plan(plan_of(data, tmp_path)).tables["main"]
    found = {corpus: cell.train_on for corpus, _, who, cell in cells_of(table) if who == "elsewhere"}
    assert found == {"one": ("other",), "other": ("one",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": {}}, "a plan has the unknown keys table; known: training, search, setting, tables."),
        ({"setting": {"ways": 5}}, "setting has the unknown keys ways; known: n_way, k_shot, balanced, wrong_labels, "),
        ({"tables": {"t": {"title": "x"}}}, "table 't' has no corpora, settings, contenders; each table needs them."),
        (
            {"training": {"rows": "mix"}, **LEAST},
            "training of 'c' has the unknown keys rows; known: backbone, device, ",
        ),
        (
            {"training": {"warp": {"row": "mix"}}, **LEAST},
            "warp of the training of 'c' has the unknown keys row; known: ",
        ),
        ({"training": {"training": {"lr": -1}}, **LEAST}, "training of the training of 'c': lr is -1; it must be "),
        ({"training": {"steps": "x"}, **LEAST}, "training of the training of 'c': '<' not supported"),
        (
            {"training": {"training": {"steps": 3}}, **LEAST},
            "training of the training of 'c' has the unknown keys steps; ",
        ),
        ({"training": [1], **LEAST}, "training of a plan is [1]; it must be a mapping."),
        ({"tables": ["t"]}, "tables of a plan is ['t']; it must be a mapping."),
        ({"tables": table_of(settings=["s"])}, "settings of table 't' is ['s']; it must be a mapping."),
        ({"tables": table_of(settings={"s": "5-way"})}, "s of table 't' is '5-way'; it must be a mapping."),
        ({"tables": table_of(contenders={"c": [1]})}, "c of table 't' is [1]; it must be a mapping."),
        ({"setting": {"n_way": "every"}, **LEAST}, "setting: n_way is 'every'; it must be a number of classes, or "),
        ({"setting": {"k_shot": [5]}, **LEAST}, "setting: k_shot is [5]; it must be a number of texts, or a range "),
        ({"tables": table_of(contenders={"c": {"seeds": []}})}, "contender 'c': seeds are []; there must be one "),
        (
            {"tables": table_of(contenders={"c": {"train_on": "others"}})},
            "table 't': c cannot train on others: one is the only corpus here.",
        ),
        ({"setting": {"episodes": 1}, **LEAST}, "setting: episodes is 1; 2 at least are needed for an interval."),
        ({"tables": table_of(contenders={"c": {"seeds": 3}})}, "contender 'c': seeds is 3; it must be a list."),
        (
            {"tables": table_of(contenders={"c": {"train_on": "one"}})},
            "contender 'c': train_on is 'one'; it must be a ",
        ),
        (
            {"tables": table_of(contenders={"c": {"init": "general", "texts": 5}})},
            "contender 'c': init 'general' is trained already; leave out train_on, classes, texts, ",
        ),
        ({"tables": table_of(corpora="one")}, "table 't': corpora is 'one'; it must be a list."),
        (
            {"tables": table_of(compare_with="d")},
            "table 't': compare_with is 'd', which is no contender; there are c.",
        ),
        ({"tables": {"t": []}}, "table 't' is []; it must be a mapping of title, corpora, settings, contenders, "),
    ],
)
def test_a_plan_that_says_something_else_is_refused(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        read_plan(plan_of(data, tmp_path, **changes))


def test_unknown_baselines_plots_tables_and_corpora_are_named(data, tmp_path):
    plan = plan_of(data, tmp_path, tables=table_of(contenders={"c": {"baseline": "bm25"}}))
    with pytest.raises(InputError, match=r"^contender 'c': unknown baseline 'bm25'; known: prototypes, "):
        read_plan(plan)
    plan = plan_of(data, tmp_path, tables=table_of(plots=["pie"]))
    known = "bars, lines, curve, matrix, reliability, confusion, cost"
    with refused(f"table 't' asks for unknown plots pie; known: {known}."):
        benchmark(plan, str(tmp_path / "out"), data=str(data))
    plan = plan_of(data, tmp_path, tables=table_of())
    with refused("workers are 0; there must be one at least."):
        benchmark(plan, str(tmp_path / "out"), data=str(data), workers=0)
    with refused("the plan has no tables u; it has t."):
        benchmark(plan, str(tmp_path / "out"), data=str(data), tables=["u"])
    plan = plan_of(data, tmp_path, tables=table_of(corpora=["third"]))
    missing = data / "third" / "data.jsonl"
    with refused(f"corpus 'third' is not in the data folder: {str(missing)!r} is missing."):
        benchmark(plan, str(tmp_path / "out"), data=str(data))


def test_settings_that_a_corpus_has_too_few_texts_for_are_refused_before_anything_is_trained(data, tmp_path):
    table = table_of(settings={"s": {}, "many": {"k_shot": 100}})
    with pytest.raises(InputError, match=r"needs 102 texts \(100 support and 2 query\), but '.*' has 12;"):
        benchmark(plan_of(data, tmp_path, tables=table), str(tmp_path / "out"), data=str(data))
    assert not (tmp_path / "out").exists()


def test_the_command_measures_and_prints(data, tmp_path, capsys):
    table = table_of(contenders={"names": {"baseline": "prototypes+names"}})
    plan = plan_of(data, tmp_path, tables=table)
    main(["benchmark", f"--plan={plan}", f"--data={data}", f"--output={tmp_path / 'out'}", "--tables=t"])
    assert "| names | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["benchmark", f"--plan={tmp_path / 'none.yaml'}", f"--output={tmp_path / 'out'}"])
    assert "No such file" in capsys.readouterr().err


def test_what_is_left_of_a_corpus_keeps_its_domains():
    corpus, split = load("everyday", "nowhere")
    cut, _ = _cut(corpus, split, Contender(classes=12, texts=5))
    of = dict(zip(corpus.class_names, corpus.domains, strict=True))
    assert cut.n_classes < corpus.n_classes and cut.domains == tuple(of[name] for name in cut.class_names)


def test_fewer_classes_and_texts_to_learn_from_are_part_of_more(data):
    corpus, split = load("one", str(data))
    found = {}
    for classes, texts in ((2, 5), (2, None), (3, 5), (None, None)):
        cut, names = _cut(corpus, split, Contender(classes=classes, texts=texts))
        assert names["validation"] == split.names()["validation"]
        assert names["test"] == split.names()["test"]
        assert set(cut.class_names) == {name for part in names.values() for name in part}
        trained = cut.select_classes(names["train"])
        assert np.bincount(trained.labels).tolist() == [texts or 12] * (classes or 3)
        found[classes, texts] = set(trained.texts)
    assert found[2, 5] < found[2, None] < found[None, None]
    assert found[2, 5] < found[3, 5] < found[None, None]
    whole, _ = _cut(corpus, split, Contender())
    assert whole.fingerprint == corpus.fingerprint


def test_the_plan_of_the_documentation_can_be_read(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "tickets.yaml").write_text(block)
    assert len(list(cells_of(read_plan(tmp_path / "tickets.yaml").tables["tickets"]))) == 3 * 7


@pytest.mark.parametrize("file", ["field.yaml", "forms.yaml"])
def test_the_plans_of_the_repository_can_be_read(file):
    for table in read_plan(ROOT / "benchmarks" / file).tables.values():
        assert list(cells_of(table))
        assert set(table.plots) <= set(PLOTS)
        for contender in table.contenders.values():
            inner_loop(contender.training["method"])


def test_no_two_plans_of_the_repository_have_a_table_of_the_same_name():
    field, forms = (read_plan(ROOT / "benchmarks" / file).tables for file in ("field.yaml", "forms.yaml"))
    assert not field.keys() & forms.keys()  # their figures are written into the docs by name


def first_cell(data, tmp_path, **contender):
    plan = plan_of(data, tmp_path, tables=table_of(contenders={"c": contender}))
    return next(cell for *_, cell in cells_of(read_plan(plan).tables["t"]))


def test_keys_change_with_what_an_init_is_and_not_with_where_it_runs(data, tmp_path):
    warp = Warp(Backbone.load(data / "backbone"), WarpConfig(max_length=40))
    init = Init.start(warp, NO_STEPS)
    init.save(tmp_path / "a")
    replace(init, temperature=Temperature(base=1.0)).save(tmp_path / "b")
    a, b = (first_cell(data, tmp_path, init=str(tmp_path / name)) for name in "ab")
    assert cell_key(a, str(data)) != cell_key(b, str(data))
    plain, its = (first_cell(data, tmp_path, baseline="prototypes", **of) for of in ({}, {"init": str(tmp_path / "a")}))
    assert cell_key(plain, str(data)) != cell_key(its, str(data))  # its inputs are of 40 tokens
    Init.start(Warp(Backbone.load(tiny_folder(tmp_path / "other", seed=5)), WarpConfig()), NO_STEPS).save(
        tmp_path / "c"
    )
    elsewhere = first_cell(data, tmp_path, baseline="prototypes", init=str(tmp_path / "c"))
    assert cell_key(plain, str(data)) != cell_key(elsewhere, str(data))  # read by another backbone
    here, there = (first_cell(data, tmp_path, training=how) for how in ({}, {"max_tokens": 99, "device": "cuda"}))
    assert training_key(here, str(data)) == training_key(there, str(data))


def test_an_init_is_measured_on_its_own_backbone_and_baselines_know_no_init(data, tmp_path):
    folder = tiny_folder(tmp_path / "other", seed=5)
    warp = Warp(Backbone.load(folder), WarpConfig())
    Init.start(warp, NO_STEPS).save(tmp_path / "init")
    contenders = {"init": {"init": str(tmp_path / "init")}, "names": {"baseline": "prototypes+names"}}
    plan = plan_of(data, tmp_path, tables=table_of(contenders=contenders))
    found = benchmark(plan, str(tmp_path / "out"), data=str(data))["tables"]["t"]["corpora"]["one"]["s"]["contenders"]
    assert len(found["init"]["init_sha256"][0]) == 64
    assert found["names"]["init_sha256"] == [""]
