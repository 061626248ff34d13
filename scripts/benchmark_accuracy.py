"""Accuracy of meta-trained inits beside the baselines on one corpus, as JSON and as a table.

    python scripts/benchmark_accuracy.py --name everyday --corpus everyday --methods anil,prototypical
    python scripts/benchmark_accuracy.py --name huffpost --corpus data.jsonl --splits splits.json
    python scripts/write_tables.py     # writes the tables of benchmarks/*.json into README.md

Every method trains with the same settings and is tested on the same episodes. Methods that benchmarks/NAME.json holds
are not run again, and a training that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from write_tables import RIVAL, accuracy_table

from metawarp import Backbone, evaluate, train
from metawarp.run_folder import CHECKPOINT, LOG
from metawarp.storage import write_text
from metawarp.training_config import TrainingConfig

SAME = ("corpus_fingerprint", "classes", "n_way", "k_shot", "n_query", "seed")
"""What results in one table have in common, beside what was asked for."""


def main() -> None:
    """Train what is missing, evaluate, write JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the corpus, in files and tables")
    parser.add_argument("--corpus", default="everyday", help="what `metawarp train --corpus` takes")
    parser.add_argument("--splits", default=None, help="splits.json of class names")
    parser.add_argument("--methods", default="anil", help="meta-gradients, with commas between")
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps, help="outer steps of each training")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 1, 5], help="shots to test at")
    parser.add_argument("--episodes", type=int, default=600, help="test episodes of each setting")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    file = Path("benchmarks") / f"{options.name}.json"
    file.parent.mkdir(exist_ok=True)
    print(accuracy_table(benchmark(options, file)))


def benchmark(options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Results by setting ("5-way 1-shot"), and by method within it; in the file after each method."""
    backbone = Backbone.load("minilm")
    asked = {"steps": options.steps, "shots": options.shots, "episodes": options.episodes}
    found: dict[str, Any] = {"name": options.name, "asked": asked, "trainings": {}, "settings": {}}
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["asked"] != asked:
            raise SystemExit(f"{file} was measured with {found['asked']}, not {asked}; take another --name.")
    trainings, settings = found["trainings"], found["settings"]
    for method in options.methods.split(","):
        if method in trainings:
            continue
        folder = Path("runs") / "benchmark" / options.name / method
        init = train(
            options.corpus,
            str(folder),
            splits=options.splits,
            method=method,
            training=TrainingConfig(steps=options.steps),
            resume=(folder / CHECKPOINT).exists(),
        )
        trainings[method] = {key: init.training[key] for key in ("steps_run", "best_step", "validation_accuracy")}
        log = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
        trainings[method]["seconds"] = round(sum(TrainingConfig.meta_batch / step["tasks_per_second"] for step in log))
        for shots in options.shots:
            setting = settings.setdefault(f"5-way {shots}-shot", {"methods": {}, "paired": {}})
            results = evaluate(
                init,
                options.corpus,
                splits=options.splits,
                backbone=backbone,
                k_shot=shots,
                episodes=options.episodes,
                baselines=("all",) if not setting["methods"] else (RIVAL,),
            )
            # Names alone: where a file lies on one machine says nothing on another.
            files = {"corpus": options.name, "splits": options.splits and Path(options.splits).name}
            protocol = setting.setdefault("protocol", results["protocol"] | files)
            if differing := [key for key in SAME if protocol[key] != results["protocol"][key]]:
                raise SystemExit(
                    f"{file} was measured with another {', '.join(differing)}; remove it or take a new name."
                )
            rename = {"metawarp": f"metawarp ({method})"}
            for name, scores in results["methods"].items():
                kept = {key: round(value, 5) for key, value in scores.items() if key != "per_episode"}
                setting["methods"].setdefault(rename.get(name, name), kept)
            setting["paired"][f"metawarp ({method})"] = {
                name.removeprefix("metawarp - "): difference for name, difference in results["paired"].items()
            }
        write_text(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


if __name__ == "__main__":
    main()
