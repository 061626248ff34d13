"""Studies of backbones and of speed: they run on small files, and their tables have a row for each measurement."""

import shutil

import pytest
from running import write_rows
from tiny import tiny_corpus, tiny_folder

from benchmarks import backbones, speed
from metawarp import Backbone


@pytest.fixture
def data(tmp_path):
    """The files that the studies read, with tiny corpora, and a tiny backbone."""
    corpus = tiny_corpus(n_classes=3, n_texts=12)
    for folder, name in (("hwu64/published", "train_5"), ("hwu64", "data"), ("huffpost", "data"), ("reuters", "data")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        write_rows(tmp_path / folder / f"{name}.jsonl", corpus)
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
