"""What unlabelled texts add to a fit, and to the same features in other methods.

    python -m benchmarks.unlabelled --data FOLDER --init general

The corpora are those of `benchmarks.pools`. Prints, for each number of labelled texts per class, the mean accuracy on
the test texts over the draws, and the mean CPU seconds of a fit of each method. Under an init without gradient steps,
texts are read before; an init with steps, such as `adaptive`, reads them in the fit. Methods of scikit-learn, on the
features of the init before any step, and SetFit get the class names, as labelled examples, only if there are no
labelled texts. With --distractors, texts of other classes or corpora are among the unlabelled ones; with --skew, their
classes have different numbers of texts; with --any-class, the labelled texts are drawn whatever their classes, so that
some classes have none.

The init `adaptive` that ships was trained on these corpora, whose texts it may have seen; of HuffPost and Reuters, on
other classes. The init `zero-start` takes as many steps, and nothing of it was learned on them.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.fits import init_named
from benchmarks.pool_methods import METHODS, PoolTask, Reader
from benchmarks.pools import SIZES, draw, sources
from benchmarks.report.tables import Rows
from metawarp.backbones.backbone import Backbone


def main() -> None:
    """Measure every corpus and number of texts, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", default=["hwu64", "huffpost"], choices=SIZES)
    parser.add_argument("--k-shot", nargs="+", type=float, default=[0, 1, 5, 10], help="numbers of texts per class")
    parser.add_argument("--any-class", action="store_true", help="draw as many texts in all, whatever their classes")
    parser.add_argument("--method", nargs="+", default=["without", "metawarp"], choices=METHODS)
    parser.add_argument("--draws", type=int, default=1, help="number of draws")
    parser.add_argument("--pool", type=int, help="number of unlabelled texts, if not that of the corpus")
    parser.add_argument("--distractors", type=float, default=0.0, help="share of unlabelled texts of no class")
    parser.add_argument("--skew", type=float, help="ratio of the most frequent class in the pool to the rarest")
    parser.add_argument("--init", default="general", help="general, adaptive, zero-start or a folder")
    parser.add_argument("--backbone", default="minilm", help="name or folder of a backbone")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    init = init_named(options.init, backbone)
    reader = Reader(init, backbone)
    header = ["corpus", "texts per class", *(part for name in options.method for part in (name, "seconds"))]
    print(Rows(header, []).markdown, flush=True)
    settings = {"distractors": options.distractors, "skew": options.skew, "of_any_class": options.any_class}
    for corpus in options.corpus:
        for k_shot in options.k_shot:
            source, size = sources(options.data, corpus, k_shot), options.pool or SIZES[corpus]
            scores = []
            for seed in range(options.draws):
                drawn = draw(source, k_shot, size, seed, **settings)
                task, truth = PoolTask(drawn, reader), np.array(drawn.labels)
                if not init.inner.moving:
                    task.read()
                scores.append([_measured(task, truth, name) for name in options.method])
            means = np.mean(scores, 0).flatten()
            print(f"| {corpus} | {k_shot:g} | {' | '.join(f'{value:.1f}' for value in means)} |", flush=True)


def _measured(task: PoolTask, truth: np.ndarray, method: str) -> tuple[float, float]:
    """Accuracy in percent, and CPU seconds."""
    start = time.process_time()
    predict = METHODS[method](task)
    seconds = time.process_time() - start
    return 100 * float(np.mean(np.array(task.episode.class_names)[predict()] == truth)), seconds


if __name__ == "__main__":
    main()
