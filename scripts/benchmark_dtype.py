"""Accuracy and speed of an init in bfloat16 beside float32, on the same episodes.

    python scripts/benchmark_dtype.py --init runs/huffpost --corpus data.jsonl --splits splits.json

Writes `benchmarks/dtype.json`: accuracy with its 95 % interval in each dtype, their paired difference, and seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, Init
from metawarp.evaluation.protocol import tested_classes
from metawarp.evaluation.scores import interval, metawarp_predictor, score
from metawarp.outputs import write_text

DTYPES = ("float32", "bfloat16")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--splits")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/dtype.json"))
    options = parser.parse_args()
    init, (_, tested) = Init.load(options.init), tested_classes(Corpus.load(options.corpus), options.splits, "test")
    results = {"episodes": options.episodes, "threads": torch.get_num_threads(), "classes": tested.n_classes}
    for shots in options.shots:
        sampler, found, accuracy = EpisodeSampler(tested, 5, shots, 10), {}, {}
        for dtype in DTYPES:
            backbone = Backbone.load(init.backbone["name"], dtype=dtype)
            warp = init.bind(backbone)
            warp.remember([*tested.texts, *tested.class_names])
            began = time.perf_counter()
            scores = score(metawarp_predictor(warp, init.to(backbone), init.inner), sampler, options.episodes)
            found[dtype] = {**scores.summary(), "seconds": round(time.perf_counter() - began, 1)}
            del found[dtype]["per_episode"]
            accuracy[dtype] = scores.accuracy
        difference = accuracy["bfloat16"] - accuracy["float32"]
        found["bfloat16 - float32"] = {"difference": float(difference.mean()), "ci95": interval(difference)}
        results[f"5-way {shots}-shot"] = found
        print(json.dumps({f"5-way {shots}-shot": found}, indent=1), flush=True)
    write_text(options.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
