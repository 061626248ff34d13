"""The last step of a training: the numbers that make the confidence of adapted tasks right."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from episodes import Episode
from metawarp.evaluation.calibration import best_temperature
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.recognition import best_recognition
from metawarp.inits.init import Init
from metawarp.warp import Warp


def calibrated(warp: Warp, init: Init, episodes: Sequence[Episode]) -> Init:
    """The init with the temperature, and the coefficients of the recognition of unknown texts, that suit some episodes
    of classes that it was not trained on."""
    predictor = metawarp_predictor(warp, init.on(warp.backbone), init.inner)
    labels, shots = zip(*((e.query_labels, float(np.mean(e.shots))) for e in episodes), strict=True)
    init = replace(init, temperature=best_temperature(list(predictor(episodes)), labels, shots))
    return replace(init, recognition=best_recognition(warp, init, episodes))
