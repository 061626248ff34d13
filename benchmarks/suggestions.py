"""Accuracy over the number of labels, for strategies that choose which texts get labelled.

    python -m benchmarks.suggestions --data FOLDER --corpus hwu64 huffpost reuters trec

A simulated annotator gives the true labels. Texts are labelled in rounds, up to 1, 2, 5 and 10 times the number C of
classes. All strategies have the same features and the same classifier, the regression of the init `general`, which
knows the names of all classes from the start; so classes without a label are still predicted. "suggest + rest" chooses
like "suggest", and its classifier is fitted to the unlabelled rest of the pool as well. "random, SetFit" is a SetFit
model that is trained with its default settings on what random choice labels.

Prints the accuracy in percent, the mean over the seeds; the area under the curve, which is the mean accuracy over the
logarithm of the number of labels; and the number of labels, in units of C, that reach the accuracy of random choice
with 5 · C labels, by linear interpolation. --record keeps the results for the table and the figure of the
documentation.

small-text is not installed with metawarp, and its optional dependencies are not needed:

    pip install --no-deps --target FOLDER small-text    # then add FOLDER to PYTHONPATH
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.labelling.feature_classifier import FeatureClassifier
from benchmarks.labelling.problems import Problem, ReadCorpus
from benchmarks.labelling.strategies import SMALL_TEXT, Strategy, random_choice, strategy_named
from benchmarks.report.label_curves import BUDGETS, RANDOM, REST, SETFIT, SUGGEST, LabelCurve, keep, label_rows
from episodes import Episode
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.setfit import fitted_setfit
from metawarp.inits.defaults import general
from metawarp.inits.init import Init
from metawarp.warp import Warp

METHODS = (RANDOM, *SMALL_TEXT, SUGGEST, REST, SETFIT)
"""What can be measured: strategies with the classifier of metawarp, and SetFit."""


def curve(init: Init, warp: Warp, problem: Problem, strategy: Strategy, seed: int, *, rest: bool) -> list[float]:
    """Accuracy in percent at each of the `BUDGETS`; if wanted, of a fit to the unlabelled rest of the pool as well."""
    labelled = np.zeros(0, dtype=int)
    accuracies = []
    for budget in BUDGETS:
        if budget:
            n = min(budget * problem.n_classes, len(problem.labels)) - len(labelled)
            classifier = FeatureClassifier(init, warp, problem, labelled)
            labelled = np.concatenate([labelled, strategy(problem, labelled, n, classifier, seed)])
        others = np.setdiff1d(np.arange(len(problem.labels)), labelled).tolist() if rest else None
        accuracies.append(FeatureClassifier(init, warp, problem, labelled, others).accuracy(problem))
    return accuracies


def curve_of_setfit(backbone: Backbone, problem: Problem, seed: int) -> list[float]:
    """Accuracy in percent at each of the `BUDGETS` of SetFit with labels of random texts; NaN without labels."""
    labelled = np.zeros(0, dtype=int)
    accuracies = [float("nan")]
    for budget in BUDGETS[1:]:
        n = min(budget * problem.n_classes, len(problem.labels)) - len(labelled)
        labelled = np.concatenate([labelled, random_choice(problem, labelled, n, seed)])
        classes, labels = np.unique(problem.labels[labelled], return_inverse=True)
        names = [str(name) for name in classes]
        episode = Episode.from_texts(names, [problem.pool_texts[row] for row in labelled], labels.tolist())
        predicted = classes[np.asarray(fitted_setfit(backbone, seed, episode).predict(problem.test_texts))]
        accuracies.append(100 * float(np.mean(predicted == problem.truth)))
    return accuracies


def measure(
    init: Init, warp: Warp, corpus: ReadCorpus, name: str, methods: Sequence[str], n_seeds: int
) -> list[LabelCurve]:
    """The curve of each method on a corpus of that name, the mean over the seeds."""
    curves: dict[str, list[list[float]]] = {method: [] for method in methods}
    for seed in range(n_seeds):
        problem = corpus.problem(seed)
        for method in methods:
            if method == SETFIT:
                one = curve_of_setfit(warp.backbone, problem, seed)
            else:
                strategy = strategy_named(SUGGEST if method == REST else method)
                one = curve(init, warp, problem, strategy, seed, rest=method == REST)
            curves[method].append(one)
    means = {method: tuple(round(float(mean), 2) for mean in np.mean(own, 0)) for method, own in curves.items()}
    return [LabelCurve(name, len(corpus.names), method, mean, n_seeds) for method, mean in means.items()]


def main() -> None:
    """Measure every corpus, and print a row for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", default=["hwu64", "huffpost", "reuters", "trec"])
    parser.add_argument("--part", default="test", help="part of the class split, for corpora that have one")
    parser.add_argument("--method", nargs="+", default=METHODS[:-1], choices=METHODS, help="what is measured")
    parser.add_argument("--seeds", type=int, default=5, help="number of pools")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    parser.add_argument("--record", action="store_true", help="keep the results for the documentation")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    init = general(backbone)
    warp = init.bind(backbone)
    for name in options.corpus:
        corpus = ReadCorpus.of(options.data, name, init, warp, options.part)
        curves = measure(init, warp, corpus, name, options.method, options.seeds)
        print(label_rows(curves).markdown, flush=True)
        for one in curves if options.record else ():
            keep(one)


if __name__ == "__main__":
    main()
