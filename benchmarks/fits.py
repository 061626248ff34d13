"""Accuracy of one fit beside other methods: the same training and test texts for all of them.

    python -m benchmarks.fits --data FOLDER --corpus trec tweets_emotion --k-shot 1 5 10 30

The corpora are those of `benchmarks.draws`. Prints for every method the mean accuracy, its difference to the first
method with the 95 % interval and the worst draw, the expected calibration error, and the mean seconds of a fit. With
--shuffled, the training labels are shuffled, so that there is nothing to learn. --plot draws accuracy over seconds.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.backbones import STRENGTH
from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.report.tables import Rows
from episodes import Episode
from metawarp.backbones.backbone import Backbone
from metawarp.config import Adapt
from metawarp.evaluation.calibration import calibration_error
from metawarp.evaluation.plots import DPI, new_figure, plain_axes
from metawarp.evaluation.scores import interval
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.tasks.classifier import WarpClassifier

Predict = Callable[[Sequence[str]], np.ndarray]
Fit = Callable[[Backbone, Draw], Predict]
"""From a backbone and labelled texts to a function from n texts to probabilities (n, C) of the classes."""


def fit_metawarp(init: str, adapt: Adapt, backbone: Backbone, draw: Draw) -> Predict:
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


def method_named(name: str) -> Fit:
    """One of `OTHERS`; else an init, with its own steps, or with those that follow a colon, as in "general:none"."""
    if name in OTHERS:
        return OTHERS[name]
    init, _, adapt = name.partition(":")
    steps: Adapt = int(adapt) if adapt.isdigit() else "none" if adapt == "none" else "auto"
    return partial(fit_metawarp, init, steps)


@dataclass(frozen=True)
class Measured:
    """What a method reaches on D draws: accuracies (D,) and calibration errors (D,) in percent, and seconds (D,)."""

    accuracies: np.ndarray
    calibration_errors: np.ndarray
    seconds: np.ndarray


def measure(fit: Fit, backbone: Backbone, tasks: Sequence[Draw]) -> Measured:
    """Fit every task, and classify its test texts."""
    rows = []
    for draw in tasks:
        start = time.perf_counter()
        predict = fit(backbone, draw)
        seconds = time.perf_counter() - start
        probabilities = predict(draw.texts)
        right = np.array(draw.examples.classes)[probabilities.argmax(1)] == np.array(draw.labels)
        rows.append((100 * right.mean(), 100 * calibration_error(probabilities.max(1), right), seconds))
    return Measured(*np.array(rows).T)


def draw_over_seconds(lines: dict[str, list[Measured]], file: Path) -> None:
    """Draw the mean accuracy of each method over the seconds of its fits, from the smallest to the largest tasks."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for name, points in lines.items():
        seconds, accuracies = zip(*((m.seconds.mean(), m.accuracies.mean()) for m in points), strict=True)
        axes.plot(seconds, accuracies, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of a fit")
    axes.set_ylabel("accuracy in percent")
    axes.legend(frameon=False)
    plain_axes(axes)
    figure.savefig(file, dpi=DPI)


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


def main() -> None:
    """Measure every method on every corpus, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_draw_options(parser)
    parser.add_argument("--k-shot", type=int, nargs="+", default=[1, 5, 10, 30], help="texts per class")
    parser.add_argument(
        "--method", nargs="+", default=["general", *OTHERS], help=f"{', '.join(OTHERS)}, an init, or an init:steps"
    )
    parser.add_argument("--shuffled", action="store_true", help="shuffle the training labels")
    parser.add_argument("--plot", type=Path, help="PNG file of accuracy over seconds, in the mean of the corpora")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    header = ["corpus", "texts per class", "method", "accuracy", "difference", "worst", "calibration error", "seconds"]
    print(Rows(header, []).markdown, flush=True)
    lines: dict[str, list[Measured]] = {name: [] for name in options.method}
    for k_shot in options.k_shot:
        for corpus in options.corpus:
            tasks = draws(options.data, corpus, k_shot, options.draws, options.tests)
            tasks = list(_shuffled(tasks) if options.shuffled else tasks)
            first = None
            for name in options.method:
                measured = measure(method_named(name), backbone, tasks)
                lines[name].append(measured)
                first = first or measured
                gains = measured.accuracies - first.accuracies
                width = f" ± {interval(gains):.1f}" if len(gains) > 1 else ""
                cells = [corpus, str(k_shot), name, f"{measured.accuracies.mean():.1f}", f"{gains.mean():+.1f}{width}"]
                cells += [f"{gains.min():+.1f}", f"{measured.calibration_errors.mean():.1f}"]
                print(f"| {' | '.join([*cells, f'{measured.seconds.mean():.1f}'])} |", flush=True)
    if options.plot:
        n = len(options.corpus)
        means = {name: [_mean(of[i : i + n]) for i in range(0, len(of), n)] for name, of in lines.items()}
        draw_over_seconds(means, options.plot)


def _mean(measured: Sequence[Measured]) -> Measured:
    """What the same number of texts per class gives in several corpora, side by side."""
    columns = ("accuracies", "calibration_errors", "seconds")
    return Measured(*(np.concatenate([getattr(m, name) for m in measured]) for name in columns))


if __name__ == "__main__":
    main()
