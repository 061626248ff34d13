"""The claims of the package on real texts with the real backbone, and the scripts that show them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close
from trainings import tensors

from metawarp import Init, TrainingConfig, WarpClassifier, evaluate, train
from metawarp.cli import main
from metawarp.inits.shipped import GENERAL

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def output_of(script, *arguments, folder):
    """The output of a script that runs in a folder."""
    program = [sys.executable, ROOT / "scripts" / script, *arguments]
    return subprocess.run(program, cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8", timeout=600).stdout


def test_a_trained_init_beats_the_best_baseline_on_classes_that_it_has_never_seen(minilm, tmp_path):
    init = train("everyday", str(tmp_path / "run"), training=TrainingConfig(steps=40, validation_episodes=30))
    results = evaluate(init, "everyday", backbone=minilm, k_shot=1, episodes=200, baselines=["prototypes+names"])
    assert results["protocol"]["classes_seen_in_training"] == []
    gain = results["paired"]["metawarp - prototypes+names"]
    assert gain["difference"] - gain["ci95"] > 0
    few = ["renew my book please", "one more week with this novel", "when do you open", "are you open on sunday"]
    classifier = WarpClassifier(tmp_path / "run", minilm).fit(few, ["renew a loan"] * 2 + ["opening hours"] * 2)
    predicted = classifier.predict(["may I keep the atlas longer", "until when can I come by"])
    assert predicted.tolist() == ["renew a loan", "opening hours"]


def test_the_general_init_can_be_trained_again(tmp_path):
    main(["train", f"--config={ROOT / 'benchmarks' / 'general.yaml'}", f"--output={tmp_path / 'general'}"])
    again, shipped = Init.load(tmp_path / "general"), Init.from_pretrained(GENERAL)
    assert again.training["best_step"] == shipped.training["best_step"]
    assert_close(tensors(again), tensors(shipped), rtol=0, atol=1e-3)  # machines round differently


def test_the_demo_trains_evaluates_and_fits(tmp_path):
    output = output_of("demo.py", folder=tmp_path)
    folder = tmp_path / "runs" / "demo"
    for setting in json.loads((folder / "results.json").read_text(encoding="utf-8")).values():
        methods = setting["methods"]
        assert methods["metawarp"]["accuracy"] > methods["prototypes+names"]["accuracy"]
    assert {"learning_curve.png", "accuracy.png", "task", "init"} <= {file.name for file in folder.iterdir()}
    expected = ["renew a loan", "lost or damaged item", "opening hours", "book a room"]
    lines = output.partition("3. Classify mails")[2].splitlines()[1:5]
    right = [line.strip().startswith(name) for line, name in zip(lines, expected, strict=True)]
    assert sum(right) >= 3  # with two texts per class, a mail about an audiobook may pass for "book a room"


def test_the_tutorial_goes_from_a_csv_file_to_a_served_prediction(tmp_path):
    rows = 'text,label\nwhere is my parcel,delivery\n"late, and no word",delivery\npay me back,refund\n'
    (tmp_path / "few.csv").write_text(rows, encoding="utf-8")
    output = output_of("tutorial.py", "--csv", tmp_path / "few.csv", folder=tmp_path)
    assert "3 texts of 2 classes" in output
    assert '"label": "delivery"' in output
