"""Calibration: the error by hand, and a temperature that makes probabilities what they should be."""

import numpy as np
import pytest
from scipy.special import softmax

from metawarp.calibration import BINS, best_temperature, bins_of, calibration_error


def test_the_error_is_the_gap_of_each_bin_by_its_size():
    confidence = np.array([0.31, 0.32, 0.95, 0.96, 0.97, 1.0])
    right = np.array([True, False, True, True, False, True])
    # Of 15 bins two hold something: 4/15 … 5/15 and 14/15 … 1.
    assert [b["number"] for b in bins_of(confidence, right)] == [2, 4]
    expected = (2 * abs(0.5 - 0.315) + 4 * abs(0.75 - 0.97)) / 6
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_every_prediction_is_in_one_bin():
    confidence = np.linspace(0, 1, 1001)
    found = bins_of(confidence, confidence > 0.5)
    assert len(found) == BINS
    assert sum(b["number"] for b in found) == 1001


def drawn(sharpness, n=20_000):
    """Probabilities of a model that is so many times too sure, and labels drawn from the right ones."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(n, 4))
    labels = np.array([generator.choice(4, p=p) for p in softmax(logits, axis=1)])
    return softmax(sharpness * logits, axis=1), labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_makes_a_model_too_sure(sharpness):
    chances, labels = drawn(sharpness)
    found = np.exp(best_temperature(np.split(chances, 4), np.split(labels, 4), [1] * 4).log(np.log(2), np.log(4)))
    assert found == pytest.approx(sharpness, rel=0.05)
    cooled = softmax(np.log(chances) / found, axis=1)
    right = cooled.argmax(1) == labels
    assert calibration_error(cooled.max(1), right) < 0.02
    assert np.array_equal(cooled.argmax(1), chances.argmax(1))


def test_certainty_that_is_wrong_is_finite():
    chances = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(best_temperature([chances], [np.array([1, 1])], [0]).log(0.0, np.log(2)))


def test_the_temperature_rises_with_the_shots_where_sureness_does():
    (few, few_labels), (many, many_labels) = drawn(1.0), drawn(3.0)
    found = best_temperature([few, many], [few_labels, many_labels], [0, 7])
    for shots, sharpness in ((0, 1.0), (7, 3.0), (1, 3 ** (1 / 3))):
        assert np.exp(found.log(np.log1p(shots), np.log(4))) == pytest.approx(sharpness, rel=0.05)
