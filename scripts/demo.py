"""The main job on what the package brings: meta-train, evaluate on unseen classes, take the init to a new task."""

from __future__ import annotations

import json
import time
from pathlib import Path

import transformers

from metawarp import Backbone, WarpClassifier, evaluate, train
from metawarp.cli import format_results
from metawarp.plots import draw_accuracies, draw_learning_curve
from metawarp.storage import write_text
from metawarp.training_config import TrainingConfig

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
    transformers.utils.logging.disable_progress_bar()  # of loading weights: a second
    print(f"1. Meta-training on the bundled corpus (54 classes), into {FOLDER / 'init'}")
    training = TrainingConfig(steps=80, validate_every=20, validation_episodes=60)
    init = train("everyday", str(FOLDER / "init"), training=training, overwrite=True)
    draw_learning_curve(FOLDER / "init").replace(FOLDER / "learning_curve.png")

    print(f"\n2. Evaluation on its 24 unseen classes: {EPISODES} episodes, the same ones for every method")
    backbone = Backbone.load("minilm")
    results = {}
    for shots in (1, 5):
        setting = f"5-way {shots}-shot"
        results[setting] = evaluate(
            str(FOLDER / "init"), "everyday", backbone=backbone, k_shot=shots, episodes=EPISODES
        )
        print(f"\n{setting}\n{format_results(results[setting])}")
    write_text(FOLDER / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    draw_accuracies(results, FOLDER / "accuracy.png")

    print("\n3. A new task from two texts a class: mails to a town library")
    texts = [text for members in FEW.values() for text in members]
    labels = [name for name, members in FEW.items() for _ in members]
    classifier = WarpClassifier(init, backbone).fit(texts, labels)
    for text, row in zip(FRESH, classifier.predict_proba(FRESH), strict=True):
        best = row.argmax()
        print(f"   {classifier.classes_[best]:<22} {row[best]:>4.0%}   {text}")
    classifier.save(FOLDER / "task")
    print(f"\nDone in {time.perf_counter() - began:.0f} s. Everything is in {FOLDER}/")


if __name__ == "__main__":
    main()
