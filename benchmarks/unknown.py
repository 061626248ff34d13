"""How well fitted classifiers recognize texts that belong to none of their classes.

    python -m benchmarks.unknown --data FOLDER --init general

Three quarters of the classes of a corpus are known: 48 of the 64 intents of HWU64, 12 of the 16 test classes of
HuffPost, and all 6 kinds of questions of TREC. Unknown texts are those of the other classes, or of another corpus. Each
row has the area under the ROC curve of `known_proba`, of the largest probability and of the largest logit, the expected
calibration error of `known_proba`, and the accuracy on known texts where a text is rejected below the threshold that
rejects 90 % of the unknown ones. All are in percent, in the mean of the draws.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.splits import class_partition
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.calibration import calibration_error
from metawarp.tasks.classifier import WarpClassifier

CORPORA = {"hwu64": "trec", "huffpost": "trec", "trec": "hwu64"}
"""The corpora, and the other one whose texts are unknown."""

KNOWN_SHARE = 3 / 4
N_TESTS = 600
"""Largest number of test texts of known classes, and of each kind of unknown texts."""

REJECTED = 0.9
"""Share of the unknown texts that is rejected."""


@dataclass(frozen=True)
class Trial:
    """Labelled texts of a task, test texts with their labels, and texts of other classes and of another corpus."""

    texts: list[str]
    labels: list[str]
    tests: list[str]
    truth: list[str]
    unknown: dict[str, list[str]]


def trials(folder: Path, name: str, k_shot: int, n_draws: int) -> Iterator[Trial]:
    """Tasks with k texts per class, drawn with the seeds 0, 1, …"""
    corpus, other = _tested(folder, name), _tested(folder, CORPORA[name])
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        classes = rng.permutation(corpus.n_classes)
        n_known = corpus.n_classes if name == "trec" else round(KNOWN_SHARE * corpus.n_classes)
        orders = [rng.permutation(corpus.rows_of(c)) for c in classes]
        train = np.concatenate([rows[:k_shot] for rows in orders[:n_known]])
        tests = rng.permutation(np.concatenate([rows[k_shot:] for rows in orders[:n_known]]))[:N_TESTS]
        others = rng.permutation(np.concatenate([[], *orders[n_known:]]).astype(int))[: N_TESTS // 3]
        far = rng.permutation(len(other))[: N_TESTS // 3]
        unknown = {"same corpus": _texts(corpus, others), CORPORA[name]: _texts(other, far)}
        labels = (np.array(corpus.class_names)[corpus.labels[rows]].tolist() for rows in (train, tests))
        few, truth = labels
        yield Trial(_texts(corpus, train), few, _texts(corpus, tests), truth, {k: v for k, v in unknown.items() if v})


def _tested(folder: Path, name: str) -> Corpus:
    """The classes of a corpus that are tested: the test classes of HuffPost, all classes of others."""
    if not (folder / name / "data.jsonl").exists():
        return Corpus.load(folder / name / "train.jsonl")
    corpus = Corpus.load(folder / name / "data.jsonl")
    if name != "huffpost":
        return corpus
    return corpus.select_classes(class_partition(corpus.class_names, folder / name / "splits.json", 0, name)["test"])


def _texts(corpus: Corpus, rows: np.ndarray) -> list[str]:
    return [corpus.texts[row] for row in rows]


def figures(classifier: WarpClassifier, trial: Trial, kind: str) -> list[float]:
    """The figures of one row for one kind of unknown texts, in percent."""
    texts = [*trial.tests, *trial.unknown[kind]]
    is_known = np.arange(len(texts)) < len(trial.tests)
    probabilities, known = classifier.predict_proba(texts), classifier.known_proba(texts)
    areas = [roc_auc_score(is_known, s) for s in (known, probabilities.max(1), _largest_logits(classifier, texts))]
    error = calibration_error(known, is_known)
    accepted = known[is_known] > np.quantile(known[~is_known], REJECTED)
    right = classifier.classes_[probabilities[is_known].argmax(1)] == np.array(trial.truth)
    return [100 * float(value) for value in (*areas, error, np.mean(accepted & right))]


@torch.no_grad()
def _largest_logits(classifier: WarpClassifier, texts: list[str]) -> np.ndarray:
    warp, parameters = classifier.task_.warp, classifier.task_.parameters
    features = warp.read(parameters, warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))
    return warp.verbalizer.logits(features, parameters.class_embeddings[0], parameters.scale).amax(1).numpy()


def main() -> None:
    """Measure every corpus and number of texts, and print a row for each kind of unknown texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--k-shot", nargs="+", type=int, default=[1, 5], help="texts per class")
    parser.add_argument("--init", default="general", help="name or folder of an init")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    parser.add_argument("--draws", type=int, default=3, help="number of tasks")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    header = ["known", "texts per class", "unknown", "known_proba", "largest probability", "largest logit"]
    print(Rows([*header, "calibration error", "accuracy at 90 % rejected"], []).markdown, flush=True)
    for name in options.corpus:
        for k_shot in options.k_shot:
            found: dict[str, list[list[float]]] = {}
            for trial in trials(options.data, name, k_shot, options.draws):
                classifier = WarpClassifier(options.init, backbone).fit(trial.texts, trial.labels)
                for kind in trial.unknown:
                    found.setdefault(kind, []).append(figures(classifier, trial, kind))
            for kind, rows in found.items():
                cells = [name, str(k_shot), kind, *(f"{value:.1f}" for value in np.mean(rows, axis=0))]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
