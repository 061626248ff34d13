"""Studies of backbones, speed, fits and adaptation: they run on small files, with a row for each measurement."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from running import write_rows
from tiny import tiny_corpus, tiny_folder

from benchmarks import adapting, backbones, fits, kinds, pool_methods, pools, speed, unlabelled
from benchmarks.draws import draws
from benchmarks.report import fit_results
from episodes import Corpus
from metawarp import Backbone, WarpClassifier
from metawarp.inits.defaults import DEFAULTS


@pytest.fixture
def data(tmp_path):
    """The files that the studies read, with tiny corpora, and a tiny backbone."""
    corpus = tiny_corpus(n_classes=3, n_texts=12)
    for folder, name in (("hwu64/published", "train_5"), ("hwu64", "data"), ("huffpost", "data"), ("reuters", "data")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        write_rows(tmp_path / folder / f"{name}.jsonl", corpus)
    parts = {"train": corpus.class_names[:1], "validation": [], "test": corpus.class_names[1:]}
    (tmp_path / "reuters/splits.json").write_text(json.dumps(parts), encoding="utf-8")
    (tmp_path / "trec").mkdir()
    for name in ("train", "test"):
        shutil.copy(tmp_path / "reuters/data.jsonl", tmp_path / f"trec/{name}.jsonl")
    for name in ("train_10", "test"):
        shutil.copy(tmp_path / "hwu64/published/train_5.jsonl", tmp_path / f"hwu64/published/{name}.jsonl")
    tiny_folder(tmp_path / "backbone")
    return tmp_path


def test_the_study_of_backbones_has_accuracies_and_costs(data):
    results = backbones.measure(str(data / "backbone"), data, episodes=0)
    for accuracy in results["accuracy"].values():
        assert set(accuracy) == {"HWU64, 5 texts", "HWU64, 10 texts"}
        assert all(50 < value <= 100 for value in accuracy.values()), "the tested texts are those of the fit"
    assert results["parameters"] > 10_000 and results["texts_per_second"] > 0
    markdown = backbones.backbone_study_rows([results]).markdown
    assert "| backbone | 0 |" in markdown and "| logistic regression |" in markdown


def test_the_study_of_speed_compares_both_with_each_number_of_threads(data):
    pytest.importorskip("onnxruntime")
    measured = speed.measure(Backbone.load(data / "backbone"), data, rounds=1)
    results = measured["prediction"]
    kinds = ("intents", "headlines", "long articles")
    assert [(one["texts"], one["threads"]) for one in results] == [(kind, n) for kind in kinds for n in (1, 2)]
    for one in results:
        assert one["ratio"][speed.PEER] == 1 and one["ratio"]["metawarp, int8 graph"] > 0
        assert one["accuracy"]["metawarp"] > 0.5
        assert one["accuracy"]["metawarp, int8 graph"] == pytest.approx(one["accuracy"]["metawarp"], abs=0.15)
    assert speed.prediction_rows(results).markdown.count("\n") == 2 + 3 * 6 - 1
    assert all(one["ratio"] > 0 and one["classes"] >= 150 for one in measured["fit"])
    assert speed.fit_rows(measured["fit"]).markdown.count("\n") == 2 + 2 - 1


def test_draws_are_of_all_classes_and_those_of_their_seeds(data):
    one, two = (list(draws(data, "trec", 4, 2, 10)) for _ in range(2))
    assert [draw.examples.episode.shots.tolist() for draw in one] == [[4, 4, 4]] * 2
    texts = [draw.examples.episode.support_texts for draw in one]
    assert texts == [draw.examples.episode.support_texts for draw in two] and texts[0] != texts[1]
    assert len(one[0].texts) == len(one[0].labels) == 10
    (published,) = draws(data, "hwu64_5", 4, 2, 10)
    assert len(published.examples.episode.support_texts) == 36
    (of_test_classes,) = draws(data, "reuters", 4, 1, 100)
    assert of_test_classes.examples.episode.shots.tolist() == [4, 4] and len(of_test_classes.texts) == 2 * (12 - 4)
    assert not set(of_test_classes.texts) & set(of_test_classes.examples.episode.support_texts)


def test_the_study_of_fits_has_a_row_for_each_method(data, monkeypatch, capsys):
    methods = ["general:none", "logistic-regression", "zero-start:1"]
    options = ["--k-shot", "1", "4", "--draws=2", "--record", f"--backbone={data}/backbone"]
    monkeypatch.setattr(sys, "argv", ["fits", f"--data={data}", "--corpus", "trec", *options, "--method", *methods])
    monkeypatch.setattr(fit_results, "FILE", data / "fits.json")
    fits.main()
    header, _, *rows = capsys.readouterr().out.splitlines()
    columns = "| corpus | texts per class | method | accuracy | difference | worst | calibration error | seconds |"
    assert header == columns
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[1:3] for row in cells] == [[k, name] for k in "14" for name in methods]
    for own, other, _ in (cells[:3], cells[3:]):
        assert own[4] == "+0.0 ± 0.0" and own[5] == "+0.0"
        gain = float(other[3]) - float(own[3])
        assert float(other[4].split(" ± ")[0]) == pytest.approx(gain, abs=0.11) and float(other[5]) <= gain + 0.11
    results = fit_results.recorded("backbone")
    cells_of_methods = [(("backbone", "trec", k), name) for k in (1, 4) for name in methods]
    assert [(one.cell, one.method) for one in results] == cells_of_methods and not fit_results.recorded()
    again = replace(results[0], accuracies=(10.0, 20.0))
    fit_results.keep(again)
    assert fit_results.recorded("backbone") == [again, *results[1:]]
    table = fit_results.fits_rows(
        [*results, replace(again, method="adaptive"), replace(again, method="setfit", accuracies=(9.0,))]
    )
    assert table.rows[0][-1] == "+1.0" and "s, 1 of 2 draws)" in table.rows[0][5]
    assert table.rows[1][-1] == "" and "15.0 (" in table.rows[0][2]
    (axes,) = fit_results.over_seconds(results).axes
    assert [line.get_label() for line in axes.lines] == methods and len(axes.lines[0].get_xdata()) == 2
    assert [text.get_text() for text in axes.texts] == ["1", "4"] * 3


@pytest.fixture
def of_many_kinds(data, monkeypatch):
    """The files for a corpus of many kinds, and the split of one of its corpora."""
    monkeypatch.setattr(kinds, "OF_ALL_CLASSES", ("trec",))
    monkeypatch.setattr(kinds, "WITH_SPLIT", ("own", "left"))
    monkeypatch.setattr(kinds, "LEAST_TEXTS", 2)
    monkeypatch.setattr(kinds, "LEAST_LEFT", 2)
    corpus = tiny_corpus(n_classes=8, n_texts=12, seed=1)
    names = [f"own {name}" for name in corpus.class_names]
    (data / "own").mkdir()
    write_rows(data / "own/data.jsonl", replace(corpus, class_names=tuple(names)))
    parts = {"train": names[:2], "validation": names[2:6], "test": names[6:]}
    (data / "own/splits.json").write_text(json.dumps(parts), encoding="utf-8")
    (data / "left").mkdir()
    (data / "left/splits.json").write_text(json.dumps({"test": [names[1]]}), encoding="utf-8")
    return data, parts


def test_a_corpus_of_many_kinds_has_a_domain_for_each_task(of_many_kinds):
    data, parts = of_many_kinds
    names = parts["train"]
    kinds.write(data, data / "kinds", without=("left",))
    made = Corpus.load(data / "kinds/data.jsonl", domain_column="domain")
    domains = dict(zip(made.class_names, made.domains, strict=True))
    splits = json.loads((data / "kinds/splits.json").read_text())
    assert {domains[name] for name in splits["train"]} == {"trec", "own", "masked words"}
    assert sorted(splits["validation"] + splits["test"]) == sorted(parts["validation"])
    assert not {names[1], *parts["test"]} & set(made.class_names), "nothing is trained on test classes"
    masked = [
        text for text, label in zip(made.texts, made.labels, strict=True) if made.domains[label] == "masked words"
    ]
    assert masked and all("_" in text for text in masked)


def test_further_kinds_of_tasks_are_made_of_the_texts_that_are_left(of_many_kinds, monkeypatch):
    data, _ = of_many_kinds
    monkeypatch.setattr(kinds, "TEXTS_PER_CLASS", 4)
    monkeypatch.setattr(kinds, "N_CLUSTERS", 2)
    monkeypatch.setattr(kinds, "N_FEATURES", 5)
    shutil.copy(data / "huffpost/data.jsonl", data / "trec/train.jsonl")
    for made, domains in {"opposed": 2, "clusters": 1}.items():
        kinds.write(data, data / made, without=("left",), made=[made])
        corpus = Corpus.load(data / made / "data.jsonl", domain_column="domain")
        new = [domain for domain in dict.fromkeys(corpus.domains) if domain not in ("trec", "own")]
        assert len(new) == domains, new
        for domain in new:
            assert corpus.domains.count(domain) == 2
        assert all(len(corpus.rows_of(c)) <= 4 for c in range(corpus.n_classes))


def test_shuffled_labels_have_the_same_texts_and_numbers_of_labels(data):
    tasks = list(draws(data, "trec", 4, 2, 10))
    for task, mixed in zip(tasks, fits._shuffled(iter(tasks)), strict=True):
        before, after = task.examples.episode, mixed.examples.episode
        assert after.support_texts == before.support_texts and after.shots.tolist() == before.shots.tolist()
        assert after.support_labels.tolist() != before.support_labels.tolist()
        assert (mixed.texts, mixed.labels) == (task.texts, task.labels)


def test_the_study_of_adaptation_has_the_accuracy_after_each_number_of_steps(data, monkeypatch, capsys):
    command = ["adapting", f"--data={data}", "--corpus", "trec", "--adapter", "lora", "prefix", "--loss", "ridge"]
    options = ["--k-shot=4", "--draws=1", "--steps", "0", "2", "--rate=0.05", "--layer=0"]
    monkeypatch.setattr(sys, "argv", [*command, *options, f"--backbone={data}/backbone"])
    adapting.main()
    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[:4] for row in cells] == [["trec", name, "ridge", "0.05"] for name in ("lora", "prefix")]
    assert cells[0][5] != cells[0][4], "the steps change the predictions"


@pytest.mark.parametrize("corpus", pools.SIZES)
def test_a_pool_has_no_text_of_the_examples_or_the_tests(data, monkeypatch, corpus):
    monkeypatch.setattr(pools, "N_TESTS", 9)
    for_splits = {"hwu64": "hwu64/published", "tweets_emotion": "tweets_emotion"}
    shutil.copytree(data / "trec", data / for_splits.get(corpus, "other"), dirs_exist_ok=True)
    shutil.copy(data / "reuters/splits.json", data / "huffpost/splits.json")
    shutil.copytree(data / "trec", data / "hwu64/published", dirs_exist_ok=True)
    source = pools.sources(data, corpus, 1)
    drawn = [pools.draw(source, 1, 12, seed, distractors=0.25, skew=2) for seed in (0, 0, 1)]
    texts = [draw.examples.episode.unlabelled_texts for draw in drawn]
    assert texts[0] == texts[1] != texts[2] and 0 < len(texts[0]) <= 12
    assert not set(texts[0]) & set(drawn[0].examples.episode.support_texts)
    if corpus in ("huffpost", "reuters"):
        assert not set(drawn[0].texts) & {*texts[0], *drawn[0].examples.episode.support_texts}
        assert set(texts[0]) & set(source.others)
    episode = pools.draw(source, 0.5, 12, of_any_class=True).examples.episode
    assert len(episode.support_texts) == round(0.5 * episode.n_way)
    assert not set(episode.unlabelled_texts) & set(episode.support_texts)


def test_the_study_of_unlabelled_texts_has_a_row_for_each_number_of_texts(data, monkeypatch, capsys):
    methods = [name for name in pool_methods.METHODS if name != "setfit"]  # which would take too long
    options = ["--corpus", "reuters", "--k-shot", "0", "2", "--pool=6", "--method", *methods]
    command = ["unlabelled", f"--data={data}", f"--backbone={data}/backbone", "--draws=2", *options]
    monkeypatch.setattr(sys, "argv", command)
    unlabelled.main()
    *_, zero, two = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert (zero[:2], two[:2]) == (["reuters", "0"], ["reuters", "2"])
    assert len(two) == 2 + 2 * len(methods) and all(0 <= float(cell) <= 100 for cell in two[2::2])


def test_the_study_of_unlabelled_texts_fits_inits_with_and_without_steps(data):
    backbone, source = Backbone.load(data / "backbone"), pools.sources(data, "reuters", 2)
    drawn = pools.draw(source, 2, 6)
    for name in ("general", "adaptive"):
        init = DEFAULTS[name](backbone)
        task = pool_methods.PoolTask(drawn, pool_methods.Reader(init, backbone))
        texts, labels = drawn.examples.episode.support_texts, drawn.examples.episode.support_labels
        given = list(texts), [drawn.examples.classes[label] for label in labels], drawn.examples.classes
        for method, pool in (("without", None), ("metawarp", drawn.examples.episode.unlabelled_texts)):
            fitted = WarpClassifier(init, backbone).fit(*given, unlabelled=pool)
            found = np.array(drawn.examples.classes)[pool_methods.METHODS[method](task)()]
            assert found.tolist() == fitted.predict(drawn.texts).tolist()
