"""Accuracy of one fit beside other methods: the same training and test texts for all of them.

    python -m benchmarks.fits --data FOLDER --corpus trec tweets_emotion --k-shot 1 5 10 30

The corpora are those of `benchmarks.draws`. Prints mean accuracies, the mean seconds of a fit, and for every method the
difference to the first one with its 95 % interval and the worst draw.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.report.tables import Rows
from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt
from metawarp.evaluation.scores import interval
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.tasks.classifier import WarpClassifier

Predict = Callable[[Sequence[str]], np.ndarray]
Fit = Callable[[Backbone, Draw], Predict]
"""From a backbone and labelled texts to a function from texts to predicted labels."""


def fit_metawarp(init: str, adapt: Adapt, backbone: Backbone, draw: Draw) -> Predict:
    """A shipped init, with the labels as class names."""
    return WarpClassifier(init, backbone, adapt=adapt).fit(*_labelled(draw)).predict


def fit_logistic_regression(backbone: Backbone, draw: Draw) -> Predict:
    """scikit-learn's logistic regression on sentence embeddings."""
    encode, (texts, labels) = SentenceEncoder(backbone, None, 0, None), _labelled(draw)
    regression = LogisticRegression(C=STRENGTH, max_iter=2000).fit(encode(texts), labels)
    return lambda new: regression.predict(encode(new))


def fit_setfit(backbone: Backbone, draw: Draw) -> Predict:
    """SetFit with its defaults, which tunes all weights of the encoder."""
    model, classes = fitted_setfit(backbone, 0, draw.examples.episode), np.array(draw.examples.classes)
    return lambda new: classes[np.asarray(model.predict(list(new)), dtype=int)]


METHODS: dict[str, Fit] = {
    "general": partial(fit_metawarp, "general", "auto"),
    "adaptive": partial(fit_metawarp, "adaptive", "auto"),
    "adaptive-none": partial(fit_metawarp, "adaptive", "none"),
    "adaptive-5": partial(fit_metawarp, "adaptive", 5),
    "logistic-regression": fit_logistic_regression,
    "setfit": fit_setfit,
}


def _labelled(draw: Draw) -> tuple[list[str], list[str]]:
    episode, classes = draw.examples.episode, draw.examples.classes
    return list(episode.support_texts), [classes[label] for label in episode.support_labels]


def measure(fit: Fit, backbone: Backbone, draw: Draw) -> tuple[float, float]:
    """Accuracy in percent on the test texts, and the seconds of the fit."""
    start = time.perf_counter()
    predict = fit(backbone, draw)
    seconds = time.perf_counter() - start
    return 100 * float((predict(draw.texts) == np.array(draw.labels)).mean()), seconds


def main() -> None:
    """Measure every method on every corpus, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_draw_options(parser)
    parser.add_argument("--k-shot", type=int, nargs="+", default=[1, 5, 10, 30], help="texts per class")
    parser.add_argument("--method", nargs="+", default=["general", "logistic-regression"], choices=METHODS)
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    header = ["corpus", "texts per class", "method", "accuracy", "difference", "worst", "seconds"]
    print(Rows(header, []).markdown, flush=True)
    for corpus in options.corpus:
        for k_shot in options.k_shot:
            tasks = list(draws(options.data, corpus, k_shot, options.draws, options.tests))
            first = np.zeros(0)
            for name in options.method:
                accuracies, seconds = np.transpose([measure(METHODS[name], backbone, draw) for draw in tasks])
                first = first if len(first) else accuracies
                gains = accuracies - first
                width = f" ± {interval(gains):.1f}" if len(gains) > 1 else ""
                cells = [corpus, str(k_shot), name, f"{accuracies.mean():.1f}", f"{gains.mean():+.1f}{width}"]
                cells += [f"{gains.min():+.1f}", f"{seconds.mean():.1f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
