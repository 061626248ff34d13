"""How long a new task takes with a loaded backbone: fit 5 classes with 5 texts each, predict 1,000 short texts.

    python -m benchmarks.latency

Writes results/latency.json: seconds from the untrained start, and from an init.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TypedDict

import torch

from benchmarks.record import RESULTS
from benchmarks.report.tables import Rows
from episodes import Corpus
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.inits.shipped import GENERAL
from metawarp.tasks.classifier import WarpClassifier

FILE = RESULTS / "latency.json"
N_CLASSES, K_SHOT, N_PREDICTED = 5, 5, 1000


class Seconds(TypedDict):
    """Seconds to fit and to predict."""

    fit: float
    predict: float


class LatencyResults(TypedDict):
    """What results/latency.json holds: seconds by the name of the init."""

    threads: int
    n_fitted: int
    n_predicted: int
    seconds: dict[str, Seconds]


def latency_rows(results: LatencyResults) -> Rows:
    """Seconds to fit and to predict from each init."""
    header = [
        f"init ({results['threads']} threads)",
        f"seconds to fit {results['n_fitted']} texts",
        f"seconds to predict {results['n_predicted']:,} texts",
    ]
    return Rows(header, [[name, f"{s['fit']:.2f}", f"{s['predict']:.2f}"] for name, s in results["seconds"].items()])


def measure(init: str, corpus: Corpus, backbone: Backbone, n_predicted: int = N_PREDICTED) -> Seconds:
    """Seconds of a task of the first classes of a corpus."""
    rows = [row for label in range(N_CLASSES) for row in corpus.rows_of(label)[:K_SHOT]]
    texts, labels = [corpus.texts[row] for row in rows], [corpus.class_names[corpus.labels[row]] for row in rows]
    classifier = WarpClassifier(init, backbone)
    start = time.perf_counter()
    classifier.fit(texts, labels)
    fitted = time.perf_counter()
    classifier.predict(corpus.texts[:n_predicted])
    return {"fit": round(fitted - start, 3), "predict": round(time.perf_counter() - fitted, 3)}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", default=GENERAL, help="folder of the init, or name of a shipped one")
    parser.add_argument("--output", type=Path, default=FILE, help="JSON file for the results")
    options = parser.parse_args()
    corpus, backbone = Corpus.load("everyday"), Backbone.load()
    results: LatencyResults = {
        "threads": torch.get_num_threads(),
        "n_fitted": N_CLASSES * K_SHOT,
        "n_predicted": N_PREDICTED,
        "seconds": {name: measure(name, corpus, backbone) for name in ("untrained", options.init)},
    }
    write_text(options.output, json.dumps(results, indent=1) + "\n")
    print(latency_rows(results).markdown)


if __name__ == "__main__":
    main()
