"""Accuracy of one fit beside other methods: the same training and test texts for all of them.

    python -m benchmarks.fits --data FOLDER --corpus trec tweets_emotion --k-shot 1 5 10 30

The corpora are those of `benchmarks.draws`. Prints for every method the mean accuracy, its difference to the first
method with the 95 % interval (Student's t) and the worst draw, the expected calibration error, and the mean seconds of
a fit. With --shuffled, the training labels are shuffled, so that there is nothing to learn. --record keeps the results
for the tables and figures of the documentation; results of the same cell and method are replaced. The init `adaptive`
that ships has seen most of these corpora: `benchmarks.left_out` trains others that have not.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import sem, t as student
from sklearn.linear_model import LogisticRegression

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes import Episode, InputError
from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt
from metawarp.evaluation.calibration import calibration_error
from metawarp.evaluation.plots import new_figure, plain_axes
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.inits.defaults import DEFAULTS, carried_over
from metawarp.inits.init import Init
from metawarp.outputs import write_text
from metawarp.tasks.classifier import WarpClassifier

FILE = RESULTS / "fits.json"

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


def method_named(name: str, backbone: Backbone) -> Fit:
    """One of `OTHERS`; else an init, with its own steps, or with those that follow a colon, as in "general:none".

    An init of MiniLM is carried over to another backbone.
    """
    if name in OTHERS:
        return OTHERS[name]
    init, _, steps = name.partition(":")
    adapt: Adapt = int(steps) if steps.isdigit() else "none" if steps == "none" else "auto"
    if steps not in ("", str(adapt)):
        raise InputError(f"{steps!r} in the method {name!r} must be auto, none or a number of steps.")
    start = DEFAULTS[init](backbone) if init in DEFAULTS else Init.from_pretrained(init)
    if start.backbone.fingerprint != backbone.fingerprint:
        start = carried_over(start, backbone)
    return partial(fit_metawarp, start, adapt)


@dataclass(frozen=True)
class Measured:
    """What a method reaches on D draws of k texts per class: accuracies and calibration errors in percent, seconds."""

    corpus: str
    k_shot: int
    method: str
    accuracies: tuple[float, ...]
    calibration_errors: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("accuracies", "calibration_errors", "seconds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists

    @property
    def cell(self) -> tuple[str, int]:
        """What was measured, whatever the method."""
        return self.corpus, self.k_shot


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
    return Measured(*name, *zip(*rows, strict=True))


def recorded() -> list[Measured]:
    """The results of the documentation."""
    return [Measured(**row) for row in json.loads(FILE.read_text(encoding="utf-8"))] if FILE.exists() else []


def _record(measured: Measured) -> None:
    kept = [one for one in recorded() if (one.cell, one.method) != (measured.cell, measured.method)]
    rows = sorted([*kept, measured], key=lambda one: (one.cell, one.method))
    write_text(FILE, json.dumps([asdict(one) for one in rows], indent=1) + "\n")


def fits_rows(results: Sequence[Measured]) -> Rows:
    """A row for each corpus and number of texts: accuracy and seconds of each method, and the paired difference of the
    init `adaptive` to SetFit with its 95 % interval."""
    methods = sorted({one.method for one in results})
    rows = []
    for cell in dict.fromkeys(one.cell for one in results):
        own = {one.method: one for one in results if one.cell == cell}
        values = [f"{_mean(own[m].accuracies)} ({_mean(own[m].seconds)} s)" if m in own else "" for m in methods]
        pair = [own[m].accuracies for m in ("adaptive", "setfit") if m in own]
        rows.append([cell[0], str(cell[1]), *values, _difference(*pair) if len(pair) == 2 else ""])
    return Rows(["corpus", "texts per class", *methods, "adaptive − setfit"], rows)


def over_seconds(results: Sequence[Measured], corpus: str = "trec") -> Any:
    """A figure of the mean accuracy on a corpus over the seconds of a fit: a line for each method that was measured
    with several numbers of texts per class, and a point for each of these."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    own = sorted((one for one in results if one.corpus == corpus), key=lambda one: one.k_shot)
    for method in dict.fromkeys(one.method for one in own):
        points = [(np.mean(one.seconds), np.mean(one.accuracies), one.k_shot) for one in own if one.method == method]
        if len(points) > 1:
            seconds, accuracies, _ = zip(*points, strict=True)
            axes.plot(seconds, accuracies, marker="o", label=method)
            for *place, k_shot in points:
                axes.annotate(str(k_shot), place, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of a fit; the numbers are texts per class")
    axes.set_ylabel("accuracy in percent")
    axes.legend(frameon=False)
    plain_axes(axes)
    return figure


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f}"


def _difference(values: Sequence[float], others: Sequence[float]) -> str:
    gains = np.subtract(values, others)
    if len(gains) == 1:
        return f"{gains[0]:+.1f}"
    return f"{gains.mean():+.1f} ± {student.ppf(0.975, len(gains) - 1) * sem(gains):.1f}"


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
                _record(measured)
            worst = np.subtract(measured.accuracies, first.accuracies).min()
            cells = [corpus, str(k_shot), measured.method, _mean(measured.accuracies)]
            cells += [_difference(measured.accuracies, first.accuracies), f"{worst:+.1f}"]
            cells += [_mean(measured.calibration_errors), _mean(measured.seconds)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
