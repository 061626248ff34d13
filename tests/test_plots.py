"""Figures of a run."""

import json
import sys
from shutil import copytree

import pytest
from running import refused

pyplot = pytest.importorskip("matplotlib.pyplot")
from metawarp.evaluation.plots import draw_accuracies, plots_available  # noqa: E402
from metawarp.training.learning_curve import draw_learning_curve  # noqa: E402


def share_drawn(file):
    """Share of the pixels of a figure that are not white."""
    assert file.read_bytes().startswith(b"\x89PNG")
    return float((pyplot.imread(file)[..., :3].min(-1) < 1).mean())


@pytest.mark.parametrize("validated", [True, False])
def test_a_learning_curve_is_drawn_from_a_log_with_and_without_validation(made, tmp_path, validated):
    copytree(made / "init", tmp_path, dirs_exist_ok=True)
    entries = [{"step": i, "loss": 1 / i, "accuracy": 0.5} for i in range(1, 30)]
    for entry in entries[9::10] if validated else []:
        entry["validation_accuracy"] = 0.5 + entry["step"] / 100
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    file = draw_learning_curve(tmp_path)
    assert file == tmp_path / "learning_curve.png"
    assert pyplot.imread(file).shape[:2] == (600, 840)
    assert 0.01 < share_drawn(file) < 0.5


def test_accuracies_are_drawn_though_a_method_is_missing_in_a_setting_and_the_figure_is_closed(tmp_path):
    before = pyplot.get_fignums()
    settings = {"0-shot": {"metawarp": 0.4}, "5-shot": {"metawarp": 0.7, "prototypes": 0.6}}
    results = {
        setting: {"methods": {name: {"accuracy": value, "ci95": 0.02} for name, value in accuracies.items()}}
        for setting, accuracies in settings.items()
    }
    assert share_drawn(draw_accuracies(results, tmp_path / "accuracy.png")) > 0.01
    assert pyplot.get_fignums() == before
    assert plots_available()


def test_without_matplotlib_its_extra_is_named(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not plots_available()
    with refused('pip install "metawarp[plots]"', error=ImportError):
        draw_accuracies({"1-shot": {"methods": {}}}, tmp_path / "accuracy.png")
