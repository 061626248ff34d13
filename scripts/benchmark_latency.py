"""How long a new task takes: fit 5 classes × 5 texts, and predict 1,000 short texts; seconds, loaded backbone."""

from __future__ import annotations

import argparse
import time

import torch

from episodes import Corpus
from metawarp import Backbone, WarpClassifier

CLASSES, SHOTS, TEXTS = 5, 5, 1000


def main() -> None:
    """Print both times, and those of the untrained start beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", default="runs/demo/init", help="folder of an init")
    options = parser.parse_args()
    corpus = Corpus.load("everyday")
    few = [row for label in range(CLASSES) for row in corpus.rows_of(label)[:SHOTS]]
    texts, labels = [corpus.texts[row] for row in few], [corpus.class_names[corpus.labels[row]] for row in few]
    backbone = Backbone.load("minilm")
    print(f"{torch.get_num_threads()} threads; seconds to fit {len(texts)} texts, to predict {TEXTS} texts")
    for init in ("untrained", options.init):
        model = WarpClassifier(init, backbone)
        began = time.perf_counter()
        model.fit(texts, labels)
        fitted = time.perf_counter()
        model.predict(corpus.texts[:TEXTS])
        print(f"{init:<20} {fitted - began:.2f} {time.perf_counter() - fitted:.2f}")


if __name__ == "__main__":
    main()
