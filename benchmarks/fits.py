"""Accuracy of one fit beside other methods: the same training and test texts for all of them.

    python -m benchmarks.fits --data FOLDER --corpus trec tweets_emotion --k-shot 1 5 10 30

The corpora are those of `benchmarks.draws`. Prints for every method the mean accuracy, its difference to the first
method with the 95 % interval (Student's t) and the worst draw, the expected calibration error, and the mean seconds of
a fit. With --shuffled, the training labels are shuffled, so that there is nothing to learn. --record keeps the results
for the tables and figures of the documentation; results of the same cell and method are replaced. The init `adaptive`
that ships has seen most of these corpora: `benchmarks.left_out` trains others that have not.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.adapting import fresh_init
from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.report.fit_results import Measured, difference, keep, mean
from benchmarks.report.tables import Rows
from episodes import Episode, InputError
from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt
from metawarp.evaluation.calibration import calibration_error
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.inits.defaults import DEFAULTS, adaptive, carried_over
from metawarp.inits.init import Init
from metawarp.tasks.classifier import WarpClassifier

Predict = Callable[[Sequence[str]], np.ndarray]
Fit = Callable[[Backbone, Draw], Predict]
"""From a backbone and labelled texts to a function from n texts to probabilities (n, C) of the classes."""


def fit_metawarp(init: Init, adapt: Adapt, backbone: Backbone, draw: Draw) -> Predict:
    """An init, with the labels as class names."""
    return WarpClassifier(init, backbone, adapt=adapt).fit(*_labelled(draw)).predict_proba


def fit_logistic_regression(backbone: Backbone, draw: Draw) -> Predict:
    """scikit-learn's logistic regression on sentence embeddings."""
    encode, (texts, labels) = SentenceEncoder(backbone, None, 0, None), _labelled(draw)
    regression = LogisticRegression(C=STRENGTH, max_iter=2000).fit(encode(texts), labels)
    return lambda new: regression.predict_proba(encode(new))


def fit_setfit(backbone: Backbone, draw: Draw) -> Predict:
    """SetFit with its defaults, which tunes all weights of the encoder."""
    model = fitted_setfit(backbone, 0, draw.examples.episode)
    return lambda new: np.asarray(model.predict_proba(list(new), as_numpy=True, show_progress_bar=False))


OTHERS: dict[str, Fit] = {"logistic-regression": fit_logistic_regression, "setfit": fit_setfit}


def zero_start(backbone: Backbone) -> Init:
    """The inner loop of `adaptive`, before it has learned anything: the low-rank updates are zero, and a step is 0.01
    long. All other numbers are those of `general`."""
    learned = adaptive(backbone)
    size, layer = learned.config.adapter_size, learned.config.adapter_layer
    return fresh_init(backbone, "lora", size, layer, learned.inner, rate=0.01)


INITS = {**DEFAULTS, "zero-start": zero_start}
"""The inits that have a name on every backbone."""


def method_named(name: str, backbone: Backbone) -> Fit:
    """One of `OTHERS`; else an init, with its own steps, or with those that follow a colon, as in "general:none".

    "zero-start" is the control without learning. An init of MiniLM is carried over to another backbone.
    """
    if name in OTHERS:
        return OTHERS[name]
    init, _, steps = name.partition(":")
    adapt: Adapt = int(steps) if steps.isdigit() else "none" if steps == "none" else "auto"
    if steps not in ("", str(adapt)):
        raise InputError(f"{steps!r} in the method {name!r} must be auto, none or a number of steps.")
    return partial(fit_metawarp, init_named(init, backbone), adapt)


def init_named(name: str, backbone: Backbone) -> Init:
    """One of `INITS`, or an init from its folder or Hub id, carried over if it was trained on another backbone."""
    init = INITS[name](backbone) if name in INITS else Init.from_pretrained(name)
    return init if init.backbone.fingerprint == backbone.fingerprint else carried_over(init, backbone)


def measure(fit: Fit, backbone: Backbone, tasks: Sequence[Draw], name: tuple[str, int, str]) -> Measured:
    """Fit every task, and classify its test texts; the name is that of corpus, number of texts and method."""
    rows = []
    for draw in tasks:
        start = time.perf_counter()
        predict = fit(backbone, draw)
        seconds = time.perf_counter() - start
        probabilities = predict(draw.texts)
        right = np.array(draw.examples.classes)[probabilities.argmax(1)] == np.array(draw.labels)
        error = calibration_error(probabilities.max(1), right)
        rows.append((round(100 * float(right.mean()), 2), round(100 * error, 2), round(seconds, 2)))
    return Measured(*name, *zip(*rows, strict=True), backbone=backbone.name.rsplit("/", 1)[-1])


def _labelled(draw: Draw) -> tuple[list[str], list[str]]:
    episode, classes = draw.examples.episode, draw.examples.classes
    return list(episode.support_texts), [classes[label] for label in episode.support_labels]


def _shuffled(tasks: Iterator[Draw]) -> Iterator[Draw]:
    """The tasks with their training labels in another order."""
    for seed, draw in enumerate(tasks):
        episode = draw.examples.episode
        labels = np.random.default_rng(seed).permutation(episode.support_labels)
        mixed = Episode.from_texts(episode.class_names, episode.support_texts, labels.tolist(), [], [])
        yield replace(draw, examples=replace(draw.examples, episode=mixed))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every method on every corpus, and print a row for each; None: the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_draw_options(parser)
    parser.add_argument("--k-shot", type=int, nargs="+", default=[1, 5, 10, 30], help="texts per class")
    parser.add_argument(
        "--method",
        nargs="+",
        default=["general", *OTHERS],
        help=f"{', '.join(OTHERS)}, an init, or an init:steps; with another name as in adaptive=FOLDER",
    )
    parser.add_argument("--shuffled", action="store_true", help="shuffle the training labels")
    parser.add_argument("--record", action="store_true", help="keep the results for the documentation")
    options = parser.parse_args(arguments)
    if options.record and options.shuffled:
        parser.error("--record keeps results with true labels; leave out --record or --shuffled")
    backbone = Backbone.load(options.backbone)
    specs = (method.rpartition("=") for method in options.method)
    methods = [(name or spec, method_named(spec, backbone)) for name, _, spec in specs]
    header = ["corpus", "texts per class", "method", "accuracy", "difference", "worst", "calibration error", "seconds"]
    print(Rows(header, []).markdown, flush=True)
    for corpus, k_shot in product(options.corpus, options.k_shot):
        tasks = draws(options.data, corpus, k_shot, options.draws, options.tests)
        tasks, first = list(_shuffled(tasks) if options.shuffled else tasks), None
        for name, fit in methods:
            measured = measure(fit, backbone, tasks, (corpus, k_shot, name))
            first = first or measured
            if options.record:
                keep(measured)
            worst = np.subtract(measured.accuracies, first.accuracies).min()
            cells = [corpus, str(k_shot), measured.method, mean(measured.accuracies)]
            cells += [difference(measured.accuracies, first.accuracies), f"{worst:+.1f}"]
            cells += [mean(measured.calibration_errors), mean(measured.seconds)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
