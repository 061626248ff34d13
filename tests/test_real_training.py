"""The claim of the package on real text with the real backbone: slow, `make test-all`."""

import pytest

from metawarp import TrainingConfig, WarpClassifier, evaluate, train


@pytest.mark.slow
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
