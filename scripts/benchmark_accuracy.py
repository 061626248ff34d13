"""Accuracy of meta-trained inits beside the baselines on one corpus, as JSON and as the README's table.

    python scripts/benchmark_accuracy.py --name everyday --corpus everyday --methods anil,prototypical
    python scripts/benchmark_accuracy.py --name huffpost --corpus data.jsonl --splits splits.json
    python scripts/benchmark_accuracy.py --readme     # writes the tables of benchmarks/*.json into README.md

Every method trains with the same settings and is tested on the same episodes. Methods that benchmarks/NAME.json holds
are not run again, and a training that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from metawarp import Backbone, evaluate, train
from metawarp.run_folder import CHECKPOINT, LOG
from metawarp.storage import write_text
from metawarp.training_config import TrainingConfig

RIVAL = "prototypes+names"
SAME = ("corpus_fingerprint", "classes", "n_way", "k_shot", "n_query", "seed")
"""What results in one table have in common, beside what was asked for."""
MARK = "<!-- tables of benchmarks/*.json, written by scripts/benchmark_accuracy.py --readme -->"


def main() -> None:
    """Train what is missing, evaluate, write JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the corpus, in files and tables")
    parser.add_argument("--corpus", default="everyday", help="what `metawarp train --corpus` takes")
    parser.add_argument("--splits", default=None, help="splits.json of class names")
    parser.add_argument("--methods", default="anil", help="meta-gradients, with commas between")
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps, help="outer steps of each training")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 1, 5], help="shots to test at")
    parser.add_argument("--episodes", type=int, default=600, help="test episodes of each setting")
    parser.add_argument("--readme", action="store_true", help="only write the tables that are there into README.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if not (options.readme or options.name):
        parser.error("--name is needed: what the corpus is called in files and tables")
    if options.readme:
        write_readme(
            Path("README.md"), [Path("benchmarks") / f"{name}.json" for name in ("huffpost", "hwu64", "everyday")]
        )
        return
    file = Path("benchmarks") / f"{options.name}.json"
    file.parent.mkdir(exist_ok=True)
    print(table(benchmark(options, file)))


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


def write_readme(readme: Path, files: list[Path]) -> None:
    """Put the tables of these results between the marks of the README."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(MARK)
    _, _, after = rest.partition(MARK)
    tables = [table(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists()]
    write_text(readme, "\n".join([before + MARK, "", "\n\n".join(tables), "", MARK + after]))


def table(found: dict[str, Any]) -> str:
    """Markdown: method × setting, percent ± 95 % interval; for each init also its paired difference to the rival."""
    settings = found["settings"]
    names = dict.fromkeys(name for setting in settings.values() for name in setting["methods"])
    methods = sorted(names, key=lambda name: not name.startswith("metawarp"))  # ours, then the baselines
    lines = [f"| {found['name']} | {' | '.join(settings)} |", "|---" * (len(settings) + 1) + "|"]
    for method in methods:
        cells = []
        for setting in settings.values():
            scores, paired = setting["methods"].get(method), setting["paired"].get(method, {}).get(RIVAL)
            cell = f"{scores['accuracy']:.1%} ± {scores['ci95'] * 100:.1f}".replace("%", "") if scores else "–"
            if paired:
                cell += f" ({paired['difference'] * 100:+.1f} ± {paired['ci95'] * 100:.1f})"
            cells.append(cell)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
