"""The init `adaptive`, trained without some corpora, and what it reaches on these.

    python -m benchmarks.left_out --data FOLDER --output runs/left-out

Each of the `FOLDS` leaves out some corpora of `benchmarks.kinds`, and trains both stages (adaptive-start.yaml and
adaptive.yaml in this folder) on the others, which takes about 15 minutes. `benchmarks.fits`, which gets all further
options, then compares it with `general` on the corpora that were left out. The fold "shipped" leaves out nothing, and
is not tested. Trainings that are there already are kept. On all-mpnet-base-v2, each takes an hour.
"""

import argparse
from collections.abc import Collection
from pathlib import Path

from benchmarks import fits, kinds
from metawarp.backbones.backbone import Backbone
from metawarp.cli import main as metawarp

FOLDS: dict[str, tuple[str, ...]] = {
    "questions-headlines": ("trec", "huffpost"),
    "tweets": ("tweets_emotion", "tweets_irony", "tweets_offensive", "tweets_sentiment"),
    "intents-articles": ("hwu64", "reuters"),
    "shipped": (),
}
"""The corpora that each training never sees."""

STAGES = ("adaptive-start", "adaptive")
"""The configurations of the two stages, in this folder; the second one starts from the first."""


def trained(
    fold: str, data: Path, output: Path, backbone: str = "minilm", made: Collection[str] = kinds.DEFAULT_MADE
) -> Path:
    """The folder of the init of a fold; it is trained if it is not there."""
    corpus, start = output / fold / "kinds", None
    on = [f"--backbone={backbone}", f"--model.adapter_layer={Backbone.load(backbone).n_layers // 3}"]
    if not (corpus / "data.jsonl").exists():
        kinds.write(data, corpus, FOLDS[fold], made)
    for stage in STAGES:
        folder = output / fold / stage
        if not (folder / "init.safetensors").exists():
            of_fold = [f"--corpus=[{corpus}/data.jsonl,varied,everyday]"]
            of_fold += [f"--splits=[{corpus}/splits.json,varied,everyday]", f"--output={folder}"]
            of_fold += [f"--start={start}"] if start else []
            metawarp(["train", f"--config={Path(__file__).parent / stage}.yaml", "--overwrite", *on, *of_fold])
        start = folder
    return output / fold / STAGES[-1]


def main() -> None:
    """Train the inits of some folds, and compare them on what they have not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--output", type=Path, required=True, help="folder for corpora and inits")
    parser.add_argument("--backbone", default="minilm", help="model that the inits are for")
    parser.add_argument("--fold", nargs="+", default=list(FOLDS), choices=FOLDS)
    parser.add_argument(
        "--made", nargs="*", default=kinds.DEFAULT_MADE, choices=kinds.MADE, help="see benchmarks.kinds"
    )
    options, others = parser.parse_known_args()  # the others are options of `benchmarks.fits`
    for fold in options.fold:
        init = trained(fold, options.data, options.output, options.backbone, options.made)
        if FOLDS[fold]:
            own = [
                f"--backbone={options.backbone}",
                "--corpus",
                *FOLDS[fold],
                "--method",
                "general",
                f"adaptive={init}",
            ]
            fits.main([f"--data={options.data}", *own, *others])


if __name__ == "__main__":
    main()
