"""Calibration: the calibration error, and the temperature that corrects probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from scipy.special import softmax
from tiny import NO_STEPS, tiny_episodes, tiny_model

from metawarp import Init, WarpClassifier
from metawarp.adaptation.temperature import Temperature
from metawarp.evaluation.calibration import BINS, best_temperature, calibration_error, reliability_bins
from metawarp.evaluation.predictors import metawarp_predictor


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_size():
    confidence = np.array([0.31, 0.32, 0.95, 0.96, 0.97, 1.0])
    right = np.array([True, False, True, True, False, True])
    # Two of 15 bins are not empty: 4/15 … 5/15 and 14/15 … 1.
    assert [b["number"] for b in reliability_bins(confidence, right)] == [2, 4]
    expected = (2 * abs(0.5 - 0.315) + 4 * abs(0.75 - 0.97)) / 6
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_every_prediction_is_in_one_bin():
    confidence = np.linspace(0, 1, 1001)
    bins = reliability_bins(confidence, confidence > 0.5)
    assert len(bins) == BINS and sum(one["number"] for one in bins) == 1001


def at(temperature, shots, ways):
    """The temperature of one task."""
    return float(temperature.of(torch.tensor([float(shots)]), torch.tensor([float(ways)])))


def drawn(sharpness, n=20_000):
    """Probabilities of a model whose logits are too large by a factor, and labels drawn from the right ones."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(n, 4))
    below = softmax(logits, axis=1).cumsum(axis=1) < generator.random((n, 1))
    labels = below.sum(axis=1).clip(max=3)
    return softmax(sharpness * logits, axis=1), labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_corrects_overconfident_probabilities(sharpness):
    probabilities, labels = drawn(sharpness)
    fitted = best_temperature(np.split(probabilities, 4), np.split(labels, 4), [1] * 4)
    assert fitted.by_shots == fitted.by_ways == 0  # all episodes are alike
    found = at(fitted, 50, 20)  # as at the one place that is known
    assert found == pytest.approx(sharpness, rel=0.05)
    corrected = softmax(np.log(probabilities) / found, axis=1)
    right = corrected.argmax(1) == labels
    assert calibration_error(corrected.max(1), right) < 0.02
    assert np.array_equal(corrected.argmax(1), probabilities.argmax(1))


def test_wrong_predictions_of_probability_one_give_a_finite_temperature():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(at(best_temperature([probabilities], [np.array([1, 1])], [0]), 0, 2))


def test_the_temperature_rises_with_the_shots_if_overconfidence_does():
    (few, few_labels), (many, many_labels) = drawn(1.0), drawn(3.0)
    found = best_temperature([few, many], [few_labels, many_labels], [0, 7])
    for shots, sharpness in ((0, 1.0), (7, 3.0), (1, 3 ** (1 / 3))):
        assert at(found, shots, 4) == pytest.approx(sharpness, rel=0.05)
    assert at(found, 100, 4) == at(found, 7, 4)  # no further than it was chosen on


def test_each_task_is_divided_by_its_own_temperature(tiny):
    warp, state = tiny_model(tiny)
    episodes = [tiny_episodes(1, n_way=n, k_shot=k, seed=n)[0] for n, k in ((2, 3), (4, 1))]
    temperature = Temperature(0.3, 0.5, 0.2, (0.0, 5.0), (2.0, 5.0))
    plain, corrected = (list(metawarp_predictor(warp, state, NO_STEPS, t)(episodes)) for t in (None, temperature))
    for episode, before, after in zip(episodes, plain, corrected, strict=True):
        shots = len(episode.support_labels) / episode.n_way
        expected = softmax(np.log(before) / at(temperature, shots, episode.n_way), axis=1)
        assert np.allclose(after, expected, rtol=0, atol=1e-6)


def test_a_classifier_has_the_probabilities_of_the_evaluation(tiny):
    warp, _ = tiny_model(tiny)
    temperature = Temperature(1.0, 0.5, 0.2, (0.0, 5.0), (2.0, 5.0))
    init = replace(Init.start(warp, NO_STEPS), temperature=temperature)
    (episode,) = tiny_episodes(1)
    names = [episode.class_names[label] for label in episode.support_labels]
    classifier = WarpClassifier(init, backbone=tiny).fit(episode.support_texts, names, class_names=episode.class_names)
    (expected,) = metawarp_predictor(warp, init.on(tiny), NO_STEPS, temperature, chooses=True)([episode])
    order = [list(classifier.classes_).index(name) for name in episode.class_names]
    assert np.allclose(classifier.predict_proba(episode.query_texts)[:, order], expected, rtol=0, atol=1e-6)


def test_numbers_that_are_not_finite_are_refused():
    with refused("base=nan", "from -20 to 20", error=ValueError):
        Temperature(float("nan"))
