"""A whole benchmark: everything is measured once, compared in pairs, and reported."""

import json
import os
import re
import signal
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import numpy as np
import psutil
import pytest
from running import ended, refused, started, until

from benchmarks.report.pages import html_report
from benchmarks.run import main, run_plan
from benchmarks.runner.corpora import load_corpus
from benchmarks.runner.training import train_for
from benchmarks.runner.workers import WorkerDiedError, run_jobs
from benchmarks.tests.conftest import NAMES
from benchmarks.tests.test_plan import cells
from metawarp import Init

PROTOTYPES = {"prototypes": {"baseline": "prototypes"}}


def test_every_contender_is_measured_in_every_setting_that_it_supports(done):
    _, results = done
    for corpus in NAMES:
        settings = results["tables"]["main"]["corpora"][corpus]
        assert list(settings["0-shot"]["contenders"]) == ["trained", "elsewhere", "untrained", "mask"]
        assert list(settings["all"]["contenders"]) == ["trained", "elsewhere", "untrained", "mask", "prototypes"]
        for setting in settings.values():
            for contender in setting["contenders"].values():
                per_episode = np.array(contender["per_episode"])
                by_training = np.array(contender["per_episode_by_training"])
                assert per_episode.shape == (6,)
                assert contender["accuracy"] == pytest.approx(per_episode.mean(), abs=1e-6)
                assert by_training.mean(0) == pytest.approx(per_episode, abs=2e-6)
                assert by_training.mean(1) == pytest.approx(contender["by_training"], abs=2e-6)
                assert np.mean(contender["macro_f1_per_episode"]) == pytest.approx(contender["macro_f1"], abs=2e-6)
                assert contender["seconds_per_task"] > 0 and contender["numbers_per_task"] > 0
                assert contender["classes_seen_in_training"] == []
        assert len(settings["all"]["contenders"]["trained"]["by_training"]) == 2


def test_results_say_how_they_were_measured(done, data):
    folder, results = done
    protocol, table = results["protocol"], results["tables"]["main"]
    assert protocol["search"] == "by hand, on validation classes"
    for name in NAMES:
        corpus, split = load_corpus(name, data)
        tested = list(split.test.class_names)
        assert protocol["corpora"][name] == {"fingerprint": corpus.fingerprint, "test_classes": tested}
    assert protocol["versions"]["torch"] == version("torch")  # without the build that torch.__version__ may name
    assert table["settings"]["all"]["n_way"] == "all" and table["settings"]["all"]["episodes"] == 6
    trained = table["corpora"]["one"]["all"]["contenders"]["trained"]
    stored = {Init.load(training).fingerprint for training in (folder / "trainings").iterdir()}
    assert len(trained["init_sha256"]) == 2 and set(trained["init_sha256"]) <= stored


def test_differences_are_paired_with_the_best_baseline(done):
    setting = done[1]["tables"]["main"]["corpora"]["one"]["all"]
    best = setting["best_baseline"]
    assert setting["compared_with"] == best in ("mask", "prototypes")
    assert set(setting["paired"]) == set(setting["contenders"]) - {best}
    accuracies = {name: np.array(one["per_episode"]) for name, one in setting["contenders"].items()}
    difference = (accuracies["untrained"] - accuracies[best]).mean()
    assert setting["paired"]["untrained"]["difference"] == pytest.approx(difference, abs=2e-6)
    assert all(0 <= paired["p_holm"] <= 1 for paired in setting["paired"].values())


def test_a_table_may_name_the_contender_to_compare_with(write_plan, data, tmp_path):
    plan = write_plan.table(contenders={**PROTOTYPES, "start": {"meta_trained": False}}, compare_with="start")
    setting = run_plan(plan, tmp_path / "out", data=data)["tables"]["t"]["corpora"]["one"]["s"]
    assert (setting["best_baseline"], setting["compared_with"]) == ("prototypes", "start")
    assert list(setting["paired"]) == ["prototypes"]


def test_predictions_of_all_trainings_count(done):
    contender = done[1]["tables"]["main"]["corpora"]["one"]["all"]["contenders"]["trained"]
    n_trainings, n_episodes, n_classes, n_query = 2, 6, 3, 2
    assert sum(b["number"] for b in contender["reliability"]) == n_trainings * n_episodes * n_classes * n_query
    counts = np.array(contender["confusion"])
    assert counts.sum(1).tolist() == [n_trainings * n_episodes * n_query] * n_classes
    assert np.trace(counts) / counts.sum() == pytest.approx(contender["accuracy"])
    assert 0 <= contender["calibration_error"] <= 1


def test_size_and_training_time_of_an_init_are_known(done):
    folder, results = done
    contenders = results["tables"]["main"]["corpora"]["one"]["all"]["contenders"]
    n_numbers = Init.load(next((folder / "trainings").iterdir())).n_numbers
    assert contenders["trained"]["numbers_of_init"] == contenders["untrained"]["numbers_of_init"] == n_numbers
    assert contenders["trained"]["training_seconds_per_task"] > 0
    assert "training_seconds_per_task" not in contenders["untrained"]
    assert "numbers_of_init" not in contenders["mask"]


def test_the_folder_holds_the_results_and_two_reports(done, data):
    folder, results = done
    assert json.loads((folder / "results.json").read_text()) == results
    markdown, page = ((folder / f"report.{kind}").read_text() for kind in ("md", "html"))
    for word in ("Everybody", "trained (2 trainings)", "0-shot", "prototypes"):
        assert word in markdown
        assert word in page
    assert page.count("data:image/png;base64,") == len(results["tables"]["main"]["plots"])
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page needs another file"
    assert str(data) not in (folder / "results.json").read_text() + page


def test_a_report_shows_what_names_and_titles_hold_and_does_not_run_it(done):
    _, results = done
    script = "<script>alert(1)</script>"
    main = {**results["tables"]["main"], "title": script}
    settings = next(iter(main["corpora"].values()))
    hostile = {script: {**main, "corpora": {f'"{script}': {script: next(iter(settings.values()))}}}}
    report: Any = {**results, "tables": hostile}
    page = html_report(report, script)
    assert "<script" not in page and page.count("&lt;script&gt;") > 4


def test_only_missing_cells_are_measured_again(done, data):
    folder, results = done
    cells = sorted((folder / "cells").iterdir())
    before = {file: file.stat().st_mtime_ns for file in cells}
    cells[0].unlink()
    again = run_plan(folder.parent / "plan.yaml", folder, data=data)
    assert [file for file in cells if file.stat().st_mtime_ns != before[file]] == [cells[0]]
    for corpus, settings in results["tables"]["main"]["corpora"].items():
        for name, setting in settings.items():
            repeated = again["tables"]["main"]["corpora"][corpus][name]["contenders"]
            for contender, one in setting["contenders"].items():
                assert repeated[contender].get("per_episode") == one.get("per_episode"), (corpus, name, contender)


def test_a_training_killed_before_its_first_checkpoint_starts_again(write_plan, data, tmp_path):
    (cell,) = cells(write_plan.table())
    whole = train_for(cell, data, tmp_path / "whole")
    killed = tmp_path / "killed" / whole.name
    killed.mkdir(parents=True)
    for name in ("config.json", "splits.json"):
        (killed / name).write_text((whole / name).read_text())
    assert Init.load(train_for(cell, data, tmp_path / "killed")).fingerprint == Init.load(whole).fingerprint


def test_results_of_something_else_are_not_replaced(write_plan, data, tmp_path):
    (tmp_path / "results.json").write_text("mine")
    with refused("results.json", str(tmp_path), "metawarp-benchmark"):
        run_plan(write_plan.table(contenders=PROTOTYPES), tmp_path, data=data)
    assert (tmp_path / "results.json").read_text() == "mine"


def test_impossible_requests_are_refused_before_anything_is_trained(write_plan, data, tmp_path):
    out = tmp_path / "out"
    with refused("workers=0"):
        run_plan(write_plan.table(), out, data=data, workers=0)
    with refused("tables=u", "t"):
        run_plan(write_plan.table(), out, data=data, tables=["u"])
    with refused("third", str(data / "third" / "data.jsonl")):
        run_plan(write_plan.table(corpora=["third"]), out, data=data)
    with refused("k_shot=100", "102 texts"):
        run_plan(write_plan.table(settings={"s": {}, "many": {"k_shot": 100}}), out, data=data)
    assert not out.exists()


def test_the_command_measures_and_prints(write_plan, data, tmp_path, capsys):
    plan = write_plan.table(contenders=PROTOTYPES)
    arguments = [f"--data={data}", f"--output={tmp_path / 'out'}"]
    main([f"--plan={plan}", *arguments, "--tables", "t"])
    assert "| prototypes | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([f"--plan={tmp_path / 'none.yaml'}", *arguments])
    assert "No such file" in capsys.readouterr().err


def test_a_killed_worker_is_an_error_of_its_own():
    with pytest.raises(WorkerDiedError, match="2 worker processes"):
        run_jobs(os._exit, [(9,)], workers=2, label="jobs")


@pytest.mark.slow
def test_workers_measure_the_same_as_one_process(done, data, tmp_path):
    folder, results = done
    again = run_plan(folder.parent / "plan.yaml", tmp_path, data=data, workers=2)
    for corpus, settings in results["tables"]["main"]["corpora"].items():
        repeated = again["tables"]["main"]["corpora"][corpus]["all"]["contenders"]
        for name, contender in settings["all"]["contenders"].items():
            assert repeated[name].get("per_episode") == contender.get("per_episode")


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(write_plan, data, tmp_path):
    contenders = {"c": {"training": {"training": {"steps": 10**6, "patience": 10**6}}, "seeds": [0, 1]}}
    plan, out = write_plan.table(contenders=contenders), tmp_path / "out"
    run = started("-m", "benchmarks.run", "--plan", plan, "--output", out, "--data", data, "--workers", "2")

    def is_running(process):
        with suppress(psutil.NoSuchProcess):
            return process.status() != psutil.STATUS_ZOMBIE
        return False

    try:
        assert until(lambda: len(list(out.glob("trainings/*/unfinished/log.jsonl"))) == 2, run)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        assert until(lambda: not any(map(is_running, workers)))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        ended(run)
