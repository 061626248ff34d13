"""How long a new task takes: fit 5 classes × 5 texts, and predict 1,000 short texts; seconds, loaded backbone."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from episodes import Corpus
from metawarp import Backbone, WarpClassifier
from metawarp.outputs import write_text

CLASSES, SHOTS, TEXTS = 5, 5, 1000


def main() -> None:
    """Print both times, and those of the untrained start beside them; write benchmarks/latency.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", default="general", help="folder of an init, or a shipped one")
    options = parser.parse_args()
    corpus = Corpus.load("everyday")
    few = [row for label in range(CLASSES) for row in corpus.rows_of(label)[:SHOTS]]
    texts, labels = [corpus.texts[row] for row in few], [corpus.class_names[corpus.labels[row]] for row in few]
    backbone = Backbone.load("minilm")
    print(f"{torch.get_num_threads()} threads; seconds to fit {len(texts)} texts, to predict {TEXTS} texts")
    found = {"threads": torch.get_num_threads(), "fitted": len(texts), "predicted": TEXTS, "seconds": {}}
    for name, init in (("untrained", "untrained"), ("init", options.init)):
        model = WarpClassifier(init, backbone)
        began = time.perf_counter()
        model.fit(texts, labels)
        fitted = time.perf_counter()
        model.predict(corpus.texts[:TEXTS])
        seconds = {"fit": round(fitted - began, 3), "predict": round(time.perf_counter() - fitted, 3)}
        found["seconds"][name] = seconds
        print(f"{init:<20} {seconds['fit']:.2f} {seconds['predict']:.2f}")
    write_text(Path("benchmarks/latency.json"), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
