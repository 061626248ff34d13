"""Accuracy of one fit on official training and test texts: metawarp beside logistic regression.

    python -m benchmarks.fits --data FOLDER --corpus trec tweets_emotion --k-shot 1 5 10 30

The corpora are those of `benchmarks.draws`. Prints mean accuracies, and the mean seconds of a fit.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.report.tables import Rows
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.tasks.classifier import WarpClassifier

Fit = Callable[[Backbone, Sequence[str], Sequence[str]], Callable[[Sequence[str]], np.ndarray]]
"""From a backbone, texts and labels to a function from texts to predicted labels."""


def fit_metawarp(backbone: Backbone, texts: Sequence[str], labels: Sequence[str]) -> Callable:
    """The default init, with the labels as class names."""
    return WarpClassifier(backbone=backbone).fit(texts, labels).predict


def fit_logistic_regression(backbone: Backbone, texts: Sequence[str], labels: Sequence[str]) -> Callable:
    """scikit-learn's logistic regression on sentence embeddings."""
    encode = SentenceEncoder(backbone, None, 0, None)
    regression = LogisticRegression(C=STRENGTH, max_iter=2000).fit(encode(texts), labels)
    return lambda new: regression.predict(encode(new))


METHODS: dict[str, Fit] = {"metawarp": fit_metawarp, "logistic regression": fit_logistic_regression}


def measure(fit: Fit, backbone: Backbone, draw: Draw) -> tuple[float, float]:
    """Accuracy in percent on the test texts, and the seconds of the fit."""
    episode, classes = draw.examples.episode, draw.examples.classes
    start = time.perf_counter()
    predict = fit(backbone, episode.support_texts, [classes[label] for label in episode.support_labels])
    seconds = time.perf_counter() - start
    return 100 * float((predict(draw.texts) == np.array(draw.labels)).mean()), seconds


def main() -> None:
    """Measure every method on every corpus, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_draw_options(parser)
    parser.add_argument("--k-shot", type=int, nargs="+", default=[1, 5, 10, 30], help="texts per class")
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    backbone, numbers = Backbone.load(options.backbone), options.k_shot
    header = ["corpus", "method", *(f"{k} per class" for k in numbers), *(f"seconds at {k}" for k in numbers)]
    print(Rows(header, []).markdown, flush=True)
    for corpus in options.corpus:
        for name in options.method:
            drawn = [draws(options.data, corpus, k, options.draws, options.tests) for k in numbers]
            means = [np.mean([measure(METHODS[name], backbone, draw) for draw in tasks], axis=0) for tasks in drawn]
            accuracies, seconds = zip(*means, strict=True)
            cells = [corpus, name, *(f"{mean:.1f}" for mean in accuracies), *(f"{mean:.1f}" for mean in seconds)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
