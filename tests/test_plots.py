"""Figures of a run."""

import json

import pytest
from running import process

matplotlib = pytest.importorskip("matplotlib")
from metawarp.evaluation.plots import draw_accuracies, plots_available  # noqa: E402
from metawarp.training.learning_curve import draw_learning_curve  # noqa: E402


def pixels(file):
    """Height, width and the share of pixels that are not white."""
    from matplotlib import image

    assert file.read_bytes().startswith(b"\x89PNG")
    found = image.imread(file)[..., :3]
    return *found.shape[:2], float((found.min(-1) < 1).mean())


def test_a_learning_curve_is_drawn_from_the_log(tmp_path):
    entries = [{"step": i, "loss": 1 / i, "accuracy": 0.5} for i in range(1, 30)]
    for entry in entries[9::10]:
        entry["validation_accuracy"] = 0.5 + entry["step"] / 100
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    file = draw_learning_curve(tmp_path)
    assert file == tmp_path / "learning_curve.png"
    height, width, share = pixels(file)
    assert (height, width) == (600, 840)
    assert 0.01 < share < 0.5


def test_a_log_without_validation_is_drawn_too(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1.0, "accuracy": 0.5}\n')
    assert pixels(draw_learning_curve(tmp_path))[2] > 0.01


def results(**accuracies):
    return {"methods": {name: {"accuracy": value, "ci95": 0.02} for name, value in accuracies.items()}}


def test_a_method_may_be_missing_in_a_setting(tmp_path):
    found = {"0-shot": results(metawarp=0.4), "5-shot": results(metawarp=0.7, prototypes=0.6)}
    assert pixels(draw_accuracies(found, tmp_path / "accuracy.png"))[2] > 0.01


def test_figures_are_closed_again(tmp_path):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    draw_accuracies({"1-shot": results(metawarp=0.5)}, tmp_path / "accuracy.png")
    assert pyplot.get_fignums() == before
    assert plots_available()


def test_without_matplotlib_its_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from metawarp.evaluation.plots import *; "
        "print(plots_available()); "
        "draw_accuracies({'1-shot': {'methods': {}}}, sys.argv[1])"
    )
    ended = process(tmp_path / "accuracy.png", code=code)
    assert ended.stdout == "False\n"
    assert ended.stderr.splitlines()[-1].startswith("ImportError: ")
    assert 'pip install "metawarp[plots]"' in ended.stderr
