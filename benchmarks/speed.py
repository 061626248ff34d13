"""Speed of `Task.predict` and of its 8-bit ONNX graph beside sentence-transformers: `encode`, then logistic regression.

    python -m benchmarks.speed --data FOLDER

FOLDER holds `hwu64` and `huffpost` (short texts) and `reuters` (long texts), each with a `data.jsonl`. All methods
predict the same texts by turns in one process. The ratio of the times of sentence-transformers and of a method is the
median over the rounds; above 1, the method is faster. A second table has the time of `fit` for 150 classes of the
bundled corpus "varied" beside that of encoding the same texts. Writes results/speed.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression

from benchmarks.graph_predictor import GraphPredictor
from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.reading import read_table
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.tasks.classifier import WarpClassifier

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FILE = RESULTS / "speed.json"
THREADS, ROUNDS = (1, 2), 5
CORPORA = {"intents": ("hwu64", 2000), "headlines": ("huffpost", 2000), "long articles": ("reuters", 500)}
K_SHOT, N_CLASSES = 5, 150
"""Texts per class of every fit, and classes of the fit that is timed."""
PEER = "sentence-transformers"
Predict = Callable[[list[str]], ArrayLike]
"""Labels of texts."""


class Prediction(TypedDict):
    """Speed of prediction on one kind of texts with one number of threads, by method."""

    texts: str
    n_texts: int
    threads: int
    texts_per_second: dict[str, float]
    ratio: dict[str, float]
    accuracy: dict[str, float]


class Fit(TypedDict):
    """Seconds to fit a task, and to encode its texts; the ratio is the median over the rounds."""

    classes: int
    texts_per_class: int
    threads: int
    fit_seconds: float
    encode_seconds: float
    ratio: float


class Speed(TypedDict):
    """What results/speed.json holds."""

    prediction: list[Prediction]
    fit: list[Fit]


class LabelledRows(NamedTuple):
    """Texts and their labels."""

    texts: list[str]
    labels: list[str]


def prediction_rows(results: Sequence[Prediction]) -> Rows:
    """One row for each kind of texts, number of threads and method."""
    header = ["texts", "threads", "method", "texts per second", "ratio", "accuracy in percent"]
    rows = []
    for one in results:
        for method, per_second in one["texts_per_second"].items():
            place = [f"{one['n_texts']:,} {one['texts']}", str(one["threads"])]
            ratio, accuracy = f"{one['ratio'][method]:.2f}", f"{100 * one['accuracy'][method]:.1f}"
            rows.append([*place, method, f"{per_second:.0f}", ratio, accuracy])
    return Rows(header, rows)


def fit_rows(results: Sequence[Fit]) -> Rows:
    """One row for each number of threads."""
    header = ["classes × texts", "threads", "seconds to fit", "seconds to encode the texts", "ratio"]
    rows = [
        [
            f"{one['classes']} × {one['texts_per_class']}",
            str(one["threads"]),
            *(f"{one[seconds]:.1f}" for seconds in ("fit_seconds", "encode_seconds")),
            f"{one['ratio']:.2f}",
        ]
        for one in results
    ]
    return Rows(header, rows)


def measure(backbone: Backbone, folder: Path, rounds: int = ROUNDS) -> Speed:
    """The speed of prediction on each kind of texts, and of a fit, with each number of threads."""
    from sentence_transformers import SentenceTransformer  # only here: the tables need no such package

    before, model = torch.get_num_threads(), SentenceTransformer(backbone.source, device="cpu")
    try:
        return {"prediction": _prediction(backbone, model, folder, rounds), "fit": _fit(backbone, model, rounds)}
    finally:
        torch.set_num_threads(before)


def _prediction(backbone: Backbone, model: "SentenceTransformer", folder: Path, rounds: int) -> list[Prediction]:
    results: list[Prediction] = []
    for kind, (corpus, number) in CORPORA.items():
        examples, test = _examples_and_test(folder / corpus / "data.jsonl", number)
        classifier = WarpClassifier("general", backbone).fit(examples.texts, examples.labels)
        regression = LogisticRegression(C=10.0, max_iter=1000).fit(model.encode(examples.texts), examples.labels)
        with TemporaryDirectory() as graphs:
            graph = Path(graphs) / "int8.onnx"
            classifier.save_onnx(graph, quantize="int8")
            for threads in THREADS:
                torch.set_num_threads(threads)
                int8 = GraphPredictor(graph, backbone.tokenizer, threads)
                methods: dict[str, Predict] = {
                    "metawarp": classifier.task_.predict,
                    "metawarp, int8 graph": int8.predict,
                    PEER: lambda texts, regression=regression: regression.predict(model.encode(texts)),
                }
                results.append(_compared(kind, test, threads, methods, rounds))
    return results


def _fit(backbone: Backbone, model: "SentenceTransformer", rounds: int) -> list[Fit]:
    """Seconds to fit classes of the bundled corpus "varied", and to encode the same texts."""
    corpus = Corpus.load("varied")
    results: list[Fit] = []
    rows = [row for label in range(N_CLASSES) for row in corpus.rows_of(label)[:K_SHOT]]
    texts = [corpus.texts[row] for row in rows]
    labels = [corpus.class_names[label] for label in corpus.labels[rows]]
    for threads in THREADS:
        torch.set_num_threads(threads)
        fits, encodings = [], []
        for _ in range(rounds):
            fits.append(_seconds(lambda: WarpClassifier("general", backbone).fit(texts, labels)))
            encodings.append(_seconds(lambda: model.encode(texts)))
        ratio = statistics.median(fit / encoding for fit, encoding in zip(fits, encodings, strict=True))
        results.append(Fit(
            classes=N_CLASSES, texts_per_class=K_SHOT, threads=threads,
            fit_seconds=statistics.median(fits), encode_seconds=statistics.median(encodings), ratio=ratio,
        ))  # fmt: skip
    return results


def _compared(kind: str, test: LabelledRows, threads: int, methods: dict[str, Predict], rounds: int) -> Prediction:
    """Times of all methods by turns, and their accuracies."""
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    accuracy: dict[str, float] = {}
    for _ in range(rounds):
        for method, predict in methods.items():
            start = time.perf_counter()
            predicted = predict(test.texts)
            seconds[method].append(time.perf_counter() - start)
            accuracy[method] = float(np.mean(np.asarray(predicted) == np.asarray(test.labels)))
    return Prediction(
        texts=kind,
        n_texts=len(test.texts),
        threads=threads,
        texts_per_second={method: len(test.texts) / statistics.median(times) for method, times in seconds.items()},
        ratio={
            method: statistics.median(peer / own for peer, own in zip(seconds[PEER], times, strict=True))
            for method, times in seconds.items()
        },
        accuracy=accuracy,
    )


def _examples_and_test(file: Path, number: int) -> tuple[LabelledRows, LabelledRows]:
    """The first texts of each class, and up to this number of other texts, evenly spaced over the file."""
    table = read_table(str(file), "text", "label")
    labels = [str(label) for label in table.labels]
    by_class: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        by_class.setdefault(label, []).append(row)
    examples = sorted(row for rows in by_class.values() for row in rows[:K_SHOT])
    others = sorted(set(range(len(labels))) - set(examples))
    chosen = [others[i] for i in np.linspace(0, len(others) - 1, min(number, len(others))).round().astype(int)]
    first, second = (
        LabelledRows([table.texts[row] for row in rows], [labels[row] for row in rows]) for rows in (examples, chosen)
    )
    return first, second


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--backbone", default="minilm", help="name, folder or Hub id of the backbone")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    results = measure(Backbone.load(options.backbone), options.data, options.rounds)
    write_text(options.output, json.dumps(results, indent=1) + "\n")
    print(prediction_rows(results["prediction"]).markdown)
    print(fit_rows(results["fit"]).markdown)


if __name__ == "__main__":
    main()
