"""How often the init of a task's own corpus is picked among those of several, and what picking is worth.

python scripts/benchmark_similar.py --data FOLDER --init huffpost=runs/huffpost hwu64=runs/hwu64 reuters=runs/reuters

FOLDER holds a folder for each corpus, with a data.jsonl and a splits.json; an init is what `metawarp train` made of its
meta-training classes. Tasks are of its test classes. Writes benchmarks/similar.json. With --choose, tasks are of its
validation classes, and what is printed is how often the own init is picked under each weight of the likelihood.
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
from metawarp.outputs import write_text
from metawarp.reuse.similar import Suitability, averaged, models, rank

OUTPUT = Path("benchmarks/similar.json")
SHOTS = (1, 5)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
BOTH, LIKELIHOOD, DIRECTION = "by both", "by texts left out", "by the direction of the prompt"


def main() -> None:
    """Measure, corpus by corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the corpora")
    parser.add_argument("--init", nargs="+", required=True, help="CORPUS=FOLDER, of each corpus")
    parser.add_argument("--episodes", type=int, default=200, help="tasks of each corpus and number of shots")
    parser.add_argument("--choose", action="store_true", help="compare weights on the validation classes instead")
    options = parser.parse_args()
    inits = {name: Init.load(folder) for name, folder in (given.split("=", 1) for given in options.init)}
    backbone = Backbone.load(next(iter(inits.values())).backbone["name"])
    settings = [(corpus, k_shot) for corpus in inits for k_shot in SHOTS]
    found: dict = {"episodes": options.episodes, "n_way": 5, "inits": list(inits), "corpora": {}}
    picked: list[list[float]] = []
    for corpus, k_shot in settings:
        splits = load(corpus, options.data)[1]
        sampler = EpisodeSampler(splits.validation if options.choose else splits.test, 5, k_shot)
        episodes = [sampler[i] for i in range(options.episodes)]
        if options.choose:
            picked.append(picked_by_weight(inits, corpus, backbone, episodes))
            print(corpus, k_shot, dict(zip(WEIGHTS, picked[-1], strict=True)))
            continue
        found["corpora"].setdefault(corpus, {})[f"{k_shot}-shot"] = measured(inits, corpus, backbone, episodes)
        write_text(OUTPUT, json.dumps(found, indent=1) + "\n")
    if options.choose:
        print("mean", dict(zip(WEIGHTS, np.mean(picked, axis=0).round(3).tolist(), strict=True)))
    else:
        print(OUTPUT.read_text(encoding="utf-8"))


def picked_by_weight(inits: dict[str, Init], own: str, backbone: Backbone, episodes: list[Episode]) -> list[float]:
    """Shares of tasks in which the own init comes first, under each of `WEIGHTS`."""
    warps, first = models(inits, dict.fromkeys(inits, backbone)), []
    for episode in tqdm(episodes, desc=own):
        ranking = rank(inits, warps, episode)
        first.append([_best(ranking, weight, 1.0) == own for weight in WEIGHTS])
    return np.mean(first, axis=0).round(3).tolist()


def _best(ranking: dict[str, Suitability], likelihood: float, direction: float) -> str:
    return max(
        ranking,
        key=lambda name: likelihood * ranking[name].log_likelihood + direction * ranking[name].prompt_similarity,
    )


def measured(inits: dict[str, Init], own: str, backbone: Backbone, episodes: list[Episode]) -> dict[str, object]:
    """Shares of tasks in which the own init comes first, and accuracies of what is started from."""
    general = Init.from_pretrained(GENERAL)
    every = {**inits, GENERAL: general}
    warps = models(every, dict.fromkeys(every, backbone))
    right: dict[str, list[float]] = {}
    first: dict[str, list[bool]] = {BOTH: [], LIKELIHOOD: [], DIRECTION: []}
    for episode in tqdm(episodes, desc=own):
        ranking = rank(inits, warps, episode)
        best = {BOTH: next(iter(ranking)), LIKELIHOOD: _best(ranking, 1.0, 0.0), DIRECTION: _best(ranking, 0.0, 1.0)}
        each = {name: accuracy(init, warps[name], episode) for name, init in every.items()}
        mean = averaged(inits, ranking, len(episode.support_labels))
        starts = {
            f"the best {BOTH}": each[best[BOTH]],
            f"the best {LIKELIHOOD}": each[best[LIKELIHOOD]],
            "their weighted mean": accuracy(mean, warps[best[BOTH]], episode),
            "its own": each[own],
            "another": float(np.mean([each[name] for name in inits if name != own])),
            GENERAL: each[GENERAL],
        }
        for name, share in starts.items():
            right.setdefault(name, []).append(share)
        for by, name in best.items():
            first[by].append(name == own)
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
