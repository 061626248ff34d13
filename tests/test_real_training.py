"""The claims of the package, on real texts with the real backbone: slow, `make test-all`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metawarp import Init, TrainingConfig, WarpClassifier, evaluate, train
from metawarp.cli import main
from metawarp.inits.shipped import GENERAL
from metawarp.parameters import tensors_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def test_a_trained_init_beats_the_best_baseline_on_classes_that_it_has_never_seen(minilm, tmp_path):
    init = train("everyday", str(tmp_path / "run"), training=TrainingConfig(steps=40, validation_episodes=30))
    results = evaluate(init, "everyday", backbone=minilm, k_shot=1, episodes=200, baselines=["prototypes+names"])
    assert results["protocol"]["classes_seen_in_training"] == []
    gain = results["paired"]["metawarp - prototypes+names"]
    assert gain["difference"] - gain["ci95"] > 0
    few = ["renew my book please", "one more week with this novel", "when do you open", "are you open on sunday"]
    classifier = WarpClassifier(tmp_path / "run", minilm).fit(few, ["renew a loan"] * 2 + ["opening hours"] * 2)
    assert classifier.predict(["may I keep the atlas longer", "until when can I come by"]).tolist() == [
        "renew a loan",
        "opening hours",
    ]


def test_the_general_init_can_be_trained_again(tmp_path):
    main(["train", f"--config={ROOT / 'benchmarks' / 'general.yaml'}", f"--output={tmp_path / 'general'}"])
    again, shipped = Init.load(tmp_path / "general"), Init.from_pretrained(GENERAL)
    assert again.training["best_step"] == shipped.training["best_step"]
    trained = tensors_of(again.parameters)
    for name, tensor in tensors_of(shipped.parameters).items():
        assert torch.allclose(trained[name], tensor, rtol=0, atol=1e-3), name  # machines round differently


def test_the_demo_trains_measures_and_fits(tmp_path):
    said = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    folder = tmp_path / "runs" / "demo"
    for setting in json.loads((folder / "results.json").read_text(encoding="utf-8")).values():
        methods = setting["methods"]
        assert methods["metawarp"]["accuracy"] > methods["prototypes+names"]["accuracy"]
    assert {"learning_curve.png", "accuracy.png", "task", "init"} <= {file.name for file in folder.iterdir()}
    expected = ["renew a loan", "lost or damaged item", "opening hours", "book a room"]
    lines = said.partition("3. A new task")[2].splitlines()[1:5]
    assert all(line.strip().startswith(name) for line, name in zip(lines, expected, strict=True))
