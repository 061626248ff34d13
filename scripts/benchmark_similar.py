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
from metawarp import Backbone, Init, WarpClassifier
from metawarp.benchmark.keys import load
from metawarp.evaluation.scores import interval
from metawarp.inits.storage import write_text
from metawarp.reuse.similar import Suitability

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
    names = {f"init {i}": name for i, name in enumerate(inits)}
    right: dict[str, list[float]] = {}
    first: dict[str, list[bool]] = {"by texts left out": [], "by the way of the prompt": []}
    for episode in tqdm(episodes, desc=own):
        starts = {
            "the best by texts left out": WarpClassifier(list(inits.values()), backbone),
            "the weighted mean": WarpClassifier(list(inits.values()), backbone, average=True),
            "its own": WarpClassifier(inits[own], backbone),
            "the ones of the others, on average": [WarpClassifier(inits[o], backbone) for o in inits if o != own],
            "general": WarpClassifier(backbone=backbone),
        }
        for name, models in starts.items():
            several = models if isinstance(models, list) else [models]
            right.setdefault(name, []).append(float(np.mean([accuracy(model, episode) for model in several])))
        ranking: dict[str, Suitability] = starts["the best by texts left out"].suitability_  # pyright: ignore
        by_way = max(ranking, key=lambda name: ranking[name].prompt_similarity)
        first["by texts left out"].append(names[next(iter(ranking))] == own)
        first["by the way of the prompt"].append(names[by_way] == own)
    return {
        "own init first": {name: float(np.mean(times)) for name, times in first.items()},
        "accuracy": {name: [float(np.mean(one)), interval(np.array(one))] for name, one in right.items()},
    }


def accuracy(model: WarpClassifier, episode: Episode) -> float:
    """Of a classifier fitted to an episode's support texts, on its queries."""
    model.fit(list(episode.support_texts), episode.support_labels.tolist(), list(episode.class_names))
    return float((model.predict(list(episode.query_texts)) == episode.query_labels).mean())


if __name__ == "__main__":
    main()
