"""Accuracy over the number of labels, for strategies that choose which texts get labelled.

    python -m benchmarks.suggestions --data FOLDER --corpus hwu64 huffpost reuters trec

A simulated annotator gives the true labels. Texts are labelled in rounds, up to 1, 2, 5 and 10 times the number C of
classes. All strategies have the same features and the same classifier, the regression of the init `general`, which
knows the names of all classes from the start; so classes without a label are still predicted. "suggest + rest" chooses
like "suggest", and its classifier is fitted to the unlabelled rest of the pool as well.

Prints the accuracy in percent, the mean over the seeds; the area under the curve, which is the mean accuracy over the
logarithm of the number of labels; and the number of labels, in units of C, that reach the accuracy of random choice
with 5 · C labels, by linear interpolation.

small-text is not installed with metawarp, and its optional dependencies are not needed:

    pip install --no-deps --target FOLDER small-text    # then add FOLDER to PYTHONPATH
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.labelling.feature_classifier import FeatureClassifier
from benchmarks.labelling.problems import Problem, ReadCorpus
from benchmarks.labelling.strategies import Strategy, strategies
from benchmarks.report.tables import Rows
from metawarp.backbones.backbone import Backbone
from metawarp.inits.defaults import general
from metawarp.inits.init import Init
from metawarp.warp import Warp

BUDGETS = (1, 2, 5, 10)
"""Numbers of labels, in units of the number of classes."""

REFERENCE = 5
"""The budget at which random choice sets the accuracy that the others have to reach."""

REST = "suggest + rest"


def curves(
    init: Init, warp: Warp, problem: Problem, strategy: Strategy, seed: int, *, rest: bool
) -> tuple[list[float], list[float]]:
    """Accuracy in percent without labels and at each of the `BUDGETS`; and the same with the unlabelled rest of the
    pool, if that is wanted."""
    labelled = np.zeros(0, dtype=int)
    plain, with_rest = [], []
    for budget in (0, *BUDGETS):
        if budget:
            n = min(budget * problem.n_classes, len(problem.labels)) - len(labelled)
            classifier = FeatureClassifier(init, warp, problem, labelled)
            labelled = np.concatenate([labelled, strategy(problem, labelled, n, classifier, seed)])
        plain.append(FeatureClassifier(init, warp, problem, labelled).accuracy(problem))
        if rest:
            others = np.setdiff1d(np.arange(len(problem.labels)), labelled).tolist()
            with_rest.append(FeatureClassifier(init, warp, problem, labelled, others).accuracy(problem))
    return plain, with_rest


def area(curve: np.ndarray) -> float:
    """Mean accuracy between the first and the last of the `BUDGETS`, over the logarithm of the number of labels."""
    logarithms = np.log(BUDGETS)
    return float(np.trapezoid(curve[1:], logarithms) / (logarithms[-1] - logarithms[0]))


def labels_needed(curve: np.ndarray, accuracy: float) -> float:
    """Smallest number of labels, in units of C, at which a curve reaches an accuracy; infinite if it does not."""
    budgets = (0, *BUDGETS)
    if curve[0] >= accuracy:
        return 0.0
    for place in range(1, len(budgets)):
        if curve[place] >= accuracy:
            below, above = curve[place - 1], curve[place]
            share = (accuracy - below) / (above - below)
            return budgets[place - 1] + share * (budgets[place] - budgets[place - 1])
    return float("inf")


def measure(init: Init, warp: Warp, corpus: ReadCorpus, n_seeds: int) -> dict[str, np.ndarray]:
    """The curve of each strategy, the mean over the seeds."""
    results: dict[str, list[list[float]]] = {}
    for seed in range(n_seeds):
        problem = corpus.problem(seed)
        for name, strategy in strategies().items():
            plain, with_rest = curves(init, warp, problem, strategy, seed, rest=name == "suggest")
            results.setdefault(name, []).append(plain)
            if with_rest:
                results.setdefault(REST, []).append(with_rest)
    return {name: np.mean(of_seeds, 0) for name, of_seeds in results.items()}


def main() -> None:
    """Measure every corpus, and print a row for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", default=["hwu64", "huffpost", "reuters", "trec"])
    parser.add_argument("--part", default="test", help="part of the class split, for corpora that have one")
    parser.add_argument("--seeds", type=int, default=5, help="number of pools")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    init = general(backbone)
    warp = init.bind(backbone)
    header = ["corpus", "strategy", "0", *(f"{budget} C" for budget in BUDGETS), "area", "labels for random's 5 C"]
    print(Rows(header, []).markdown, flush=True)
    for corpus in options.corpus:
        results = measure(init, warp, ReadCorpus.of(options.data, corpus, init, warp, options.part), options.seeds)
        accuracy = results["random"][1 + BUDGETS.index(REFERENCE)]
        for name, curve in results.items():
            figures = [f"{value:.1f}" for value in (*curve, area(curve))]
            print(f"| {' | '.join([corpus, name, *figures, f'{labels_needed(curve, accuracy):.1f} C'])} |", flush=True)


if __name__ == "__main__":
    main()
