"""The main job on what the package brings: meta-train, evaluate on unseen classes, take the init to a new task."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metawarp import Backbone, WarpClassifier, evaluate, train
from metawarp.evaluation.plots import draw_accuracies
from metawarp.outputs import write_text
from metawarp.training.config import TrainingConfig
from metawarp.training.learning_curve import draw_learning_curve

FOLDER = Path("runs/demo")
EPISODES = 200

# A task of a kind that the bundled corpus does not have: mails to a town library.
FEW = {
    "renew a loan": [
        "can i keep the gardening book another two weeks?",
        "Please extend my three novels, I'm not finished with them.",
    ],
    "opening hours": [
        "are you open on whit monday",
        "Until when can I come by on Saturdays?",
    ],
    "lost or damaged item": [
        "my toddler tore two pages out of the dinosaur book, what now",
        "I cannot find the DVD anywhere, I think I left it on the train.",
    ],
    "book a room": [
        "Our reading group would like to meet in the small hall on Tuesdays.",
        "is the study room free next thursday evening?",
    ],
}
FRESH = [
    "the audiobook is due tomorrow, may I keep it until the weekend",
    "Coffee spilled over the atlas. I am so sorry. Shall I pay for it?",
    "is anybody there on christmas eve in the morning",
    "could the chess club have a place for twelve people every other friday",
]


def main() -> None:
    """Run the demo and say what happens."""
    began = time.perf_counter()
    print(f"1. Meta-training on the bundled corpus (54 classes), into {FOLDER / 'init'}")
    training = TrainingConfig(steps=80)
    train("everyday", str(FOLDER / "init"), n_query=6, training=training, overwrite=True)
    draw_learning_curve(FOLDER / "init").replace(FOLDER / "learning_curve.png")

    print(f"\n2. Evaluation on its 24 unseen classes: {EPISODES} episodes, the same ones for every method")
    backbone = Backbone.load("minilm")
    results = {}
    for shots in (1, 5):
        setting = f"5-way {shots}-shot"
        results[setting] = evaluate(
            str(FOLDER / "init"), "everyday", backbone=backbone, k_shot=shots, episodes=EPISODES
        )
    print(table(results))
    write_text(FOLDER / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    draw_accuracies(results, FOLDER / "accuracy.png")

    print("\n3. A new task from two texts a class, with the init that ships with metawarp: mails to a town library")
    texts = [text for members in FEW.values() for text in members]
    labels = [name for name, members in FEW.items() for _ in members]
    classifier = WarpClassifier(backbone=backbone).fit(texts, labels)
    for text, row in zip(FRESH, classifier.predict_proba(FRESH), strict=True):
        best = row.argmax()
        print(f"   {classifier.classes_[best]:<22} {row[best]:>4.0%}   {text}")
    classifier.save(FOLDER / "task")
    print(f"\nDone in {time.perf_counter() - began:.0f} s. Everything is in {FOLDER}/")


def table(results: Mapping[str, Any]) -> str:
    """One line a method: accuracy in percent ± 95 % interval, and by how much metawarp is above it, by setting."""
    lines = [f"{'method':<20}" + "".join(f"{setting:>30}" for setting in results)]
    for name in next(iter(results.values()))["methods"]:
        cells = []
        for found in results.values():
            scores, paired = found["methods"][name], found["paired"].get(f"metawarp - {name}")
            cell = f"{100 * scores['accuracy']:.1f} ± {100 * scores['ci95']:.1f}"
            if paired:
                cell += f" ({100 * paired['difference']:+.1f} ± {100 * paired['ci95']:.1f})"
            cells.append(f"{cell:>30}")
        lines.append(f"{name:<20}" + "".join(cells))
    return "\n".join([*lines, "in parentheses: metawarp minus the method, on the same episodes"])


if __name__ == "__main__":
    main()
