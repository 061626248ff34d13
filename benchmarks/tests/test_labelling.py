"""The study of which texts to label: the curves of a small corpus, and how they become a table and a figure."""

import math
import sys

import pytest
from running import write_rows
from tiny import tiny_corpus, tiny_folder

from benchmarks import suggestions
from benchmarks.report import label_curves
from benchmarks.report.label_curves import BUDGETS, LabelCurve


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that runs the study of a small corpus with some methods, and keeps the results in a new file."""
    corpus = tiny_corpus(n_classes=3, n_texts=24)
    (tmp_path / "trec").mkdir()
    for name in ("train", "test"):
        write_rows(tmp_path / f"trec/{name}.jsonl", corpus)
    backbone = tiny_folder(tmp_path / "backbone")
    monkeypatch.setattr(label_curves, "FILE", tmp_path / "labels.json")

    def run(*methods: str) -> None:
        options = ["--corpus", "trec", "--seeds", "2", "--record", "--backbone", str(backbone)]
        arguments = ["suggestions", "--data", str(tmp_path), *options, "--method", *methods]
        monkeypatch.setattr(sys, "argv", arguments)
        suggestions.main()

    return run


def test_every_method_has_a_curve_that_is_kept(study, capsys):
    methods = [label_curves.RANDOM, label_curves.SUGGEST, label_curves.REST]
    study(*methods)
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert "labels for random's 5 C" in header and [row.split(" | ")[1] for row in rows] == methods
    curves = label_curves.recorded()
    assert [(one.strategy, one.n_classes, one.n_pools) for one in curves] == [(name, 3, 2) for name in methods]
    assert all(len(one.accuracies) == len(BUDGETS) and max(one.accuracies) <= 100 for one in curves)
    assert curves[0].accuracies[0] == curves[1].accuracies[0], "without labels, there is nothing to choose"
    study(label_curves.RANDOM)
    assert {one.strategy for one in label_curves.recorded()} == set(methods)
    panels = label_curves.over_labels(label_curves.recorded(), ["trec"]).axes
    assert [line.get_xdata().tolist() for line in panels[0].lines] == [[0, 3, 6, 15, 30]] * 3


def test_labels_needed_are_interpolated():
    curve = LabelCurve("trec", 6, "random", (40.0, 50.0, 60.0, 60.0, 80.0), 1)
    assert curve.labels_needed(40) == 0 and curve.labels_needed(50) == 1
    assert curve.labels_needed(55) == pytest.approx(1.5) and curve.labels_needed(70) == pytest.approx(7.5)
    assert curve.labels_needed(81) == math.inf
    setfit = LabelCurve("trec", 6, label_curves.SETFIT, (math.nan, 50.0, 60.0, 60.0, 80.0), 1)
    assert setfit.labels_needed(45) == 1 and setfit.area == curve.area
    assert label_curves.label_rows([curve, setfit]).rows[1][2] == "–"


def test_the_area_is_the_mean_over_the_logarithm_of_the_labels():
    constant = LabelCurve("trec", 6, "random", (10.0, 70.0, 70.0, 70.0, 70.0), 1)
    assert constant.area == pytest.approx(70)
    late = LabelCurve("trec", 6, "random", (10.0, 50.0, 50.0, 50.0, 70.0), 1)
    assert late.area == pytest.approx(50 + 10 * math.log(2) / math.log(10))
