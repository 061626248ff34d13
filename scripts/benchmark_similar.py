"""How often the init of a task's own corpus is picked among those of several, and what picking is worth.

python scripts/benchmark_similar.py --data FOLDER --init huffpost=runs/huffpost hwu64=runs/hwu64 reuters=runs/reuters

FOLDER holds a folder for each corpus, with a data.jsonl and a splits.json; an init is what `metawarp train` made of its
meta-training classes. Tasks are of its test classes. Writes benchmarks/similar.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from episodes import Episode, EpisodeSampler
from metawarp import Backbone, Init, Warp
from metawarp.benchmark.keys import load
from metawarp.evaluation.scores import interval, metawarp_predictor
from metawarp.inits.shipped import GENERAL
from metawarp.inits.storage import write_text
from metawarp.reuse.similar import averaged, rank

OUTPUT = Path("benchmarks/similar.json")
SHOTS = (1, 5)


def main() -> None:
    """Measure, corpus by corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the corpora")
    parser.add_argument("--init", nargs="+", required=True, help="CORPUS=FOLDER, of each corpus")
    parser.add_argument("--episodes", type=int, default=200, help="tasks of each corpus and number of shots")
    options = parser.parse_args()
    inits = {name: Init.load(folder) for name, folder in (given.split("=", 1) for given in options.init)}
    backbone = Backbone.load(next(iter(inits.values())).backbone["name"])
    found: dict = {"episodes": options.episodes, "n_way": 5, "inits": list(inits), "corpora": {}}
    for corpus in inits:
        test = load(corpus, options.data)[1].test
        found["corpora"][corpus] = {
            f"{k_shot} shots": measured(
                inits, corpus, backbone, [EpisodeSampler(test, 5, k_shot)[i] for i in range(options.episodes)]
            )
            for k_shot in SHOTS
        }
        write_text(OUTPUT, json.dumps(found, indent=1) + "\n")
    print(OUTPUT.read_text(encoding="utf-8"))


def measured(inits: dict[str, Init], own: str, backbone: Backbone, episodes: list[Episode]) -> dict[str, object]:
    """Shares of tasks in which the own init comes first, and accuracies of what is started from."""
    general = Init.load(GENERAL)
    warps = {name: init.bind(backbone) for name, init in {**inits, GENERAL: general}.items()}
    mean_of = inits[own].bind(backbone)
    right: dict[str, list[float]] = {}
    first: dict[str, list[bool]] = {"by texts left out": [], "by the way of the prompt": []}
    for episode in tqdm(episodes, desc=own):
        ranking = rank(inits, warps, episode)
        best = next(iter(ranking))
        each = {name: accuracy(init, warps[name], episode) for name, init in {**inits, GENERAL: general}.items()}
        starts = {
            "the best by texts left out": each[best],
            "their weighted mean": accuracy(averaged(inits, ranking, len(episode.support_labels)), mean_of, episode),
            "its own": each[own],
            "another": float(np.mean([each[name] for name in inits if name != own])),
            GENERAL: each[GENERAL],
        }
        for name, share in starts.items():
            right.setdefault(name, []).append(share)
        by_way = max(ranking, key=lambda name: ranking[name].prompt_similarity)
        first["by texts left out"].append(best == own)
        first["by the way of the prompt"].append(by_way == own)
    return {
        "own init first": {name: float(np.mean(times)) for name, times in first.items()},
        "accuracy": {name: [float(np.mean(one)), interval(np.array(one))] for name, one in right.items()},
    }


def accuracy(init: Init, warp: Warp, episode: Episode) -> float:
    """Of a task's queries, adapted from an init."""
    (probabilities,) = metawarp_predictor(warp, init.to(warp.backbone), init.inner)([episode])
    return float((probabilities.argmax(1) == episode.query_labels).mean())


if __name__ == "__main__":
    main()
