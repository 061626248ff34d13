"""The main job on what the package contains: meta-train an init, evaluate it, and use an init for a new task."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from episodes.writing import write_text
from metawarp import Backbone, TrainingConfig, WarpClassifier, evaluate, train
from metawarp.evaluation.plots import draw_accuracies
from metawarp.training.learning_curve import draw_learning_curve

FOLDER = Path("runs/demo")
STEPS, EPISODES = 30, 100
BASELINES = ["prototypes", "prototypes+names", "logistic-regression"]

# A task of a kind that the bundled corpora do not contain: mails to a town library.
LABELLED = {
    "renew a loan": [
        "can i keep the gardening book another two weeks?",
        "Please extend my three novels, I'm not finished with them.",
    ],
    "opening hours": ["are you open on whit monday", "Until when can I come by on Saturdays?"],
    "lost or damaged item": [
        "my toddler tore two pages out of the dinosaur book, what now",
        "I cannot find the DVD anywhere, I think I left it on the train.",
    ],
    "book a room": [
        "Our reading group would like to meet in the small hall on Tuesdays.",
        "is the study room free next thursday evening?",
    ],
}
NEW = [
    "the audiobook is due tomorrow, may I keep it until the weekend",
    "Coffee spilled over the atlas. I am so sorry. Shall I pay for it?",
    "is anybody there on christmas eve in the morning",
    "could the chess club have a place for twelve people every other friday",
]


def main() -> None:
    """Run the three parts and print their results."""
    began = time.perf_counter()
    backbone = Backbone.load("minilm")

    print(f"1. Meta-train an init on the bundled corpus 'everyday': 54 training classes, {STEPS} steps.")
    training = TrainingConfig(steps=STEPS, validate_every=10)
    init = train("everyday", str(FOLDER / "init"), backbone=backbone, n_query=6, training=training, overwrite=True)
    draw_learning_curve(FOLDER / "init").replace(FOLDER / "learning_curve.png")
    start, best = (100 * init.training[f"validation_accuracy{part}"] for part in ("_of_start", ""))
    print(f"   Accuracy on the validation classes: {start:.1f} % before training, {best:.1f} % after it.")

    print(f"\n2. Evaluate it on the 24 test classes, which it has never seen: {EPISODES} episodes per setting.")
    results = {}
    for shots in (1, 5):
        results[f"5-way {shots}-shot"] = evaluate(
            init, "everyday", backbone=backbone, k_shot=shots, episodes=EPISODES, baselines=BASELINES
        )
    print(table(results))
    write_text(FOLDER / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    draw_accuracies(results, FOLDER / "accuracy.png")

    print("\n3. Classify mails to a town library, from two labelled mails per class and the init that ships.")
    texts = [text for examples in LABELLED.values() for text in examples]
    labels = [name for name, examples in LABELLED.items() for _ in examples]
    classifier = WarpClassifier(backbone=backbone).fit(texts, labels)
    for text, probabilities in zip(NEW, classifier.predict_proba(NEW), strict=True):
        best_class = probabilities.argmax()
        print(f"   {classifier.classes_[best_class]:<22} {probabilities[best_class]:>4.0%}   {text}")
    classifier.save(FOLDER / "task")
    seconds = time.perf_counter() - began
    print(f"\nDone in {seconds:.0f} seconds. The init, the task, the results and two figures are in {FOLDER}/.")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The accuracy of each method in percent ± 95 % interval, one column for each setting."""
    lines = [f"   {'':<22}" + "".join(f"{setting:>16}" for setting in results)]
    for name in next(iter(results.values()))["methods"]:
        scores = [one["methods"][name] for one in results.values()]
        cells = [f"{100 * score['accuracy']:.1f} ± {100 * score['ci95']:.1f}" for score in scores]
        lines.append(f"   {name:<22}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
