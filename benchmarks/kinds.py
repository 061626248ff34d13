"""One corpus of tasks of many kinds, for meta-training: questions, opinions, intents, news, and words that are masked.

    python -m benchmarks.kinds --data FOLDER --output runs/kinds --without trec huffpost

Each corpus is a domain, so that the classes of an episode belong to one task, and every task is equally likely. Of a
corpus with a class split, its training and validation classes are used; of the others, all classes, for training. A
class whose name an earlier corpus has, or a test class of any corpus, is left out. Writes data.jsonl and splits.json;
the last two validation classes are its test part.
"""

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmarks.draws import of_each_class
from episodes import Corpus
from episodes.derived import masked_words
from episodes.splits import PARTS

OF_ALL_CLASSES = ("trec", "tweets_emotion", "tweets_irony", "tweets_offensive", "tweets_sentiment")
"""Corpora with a train.jsonl, all of whose classes are trained on."""

WITH_SPLIT = ("hwu64", "huffpost", "reuters")
"""Corpora with a data.jsonl and a splits.json."""

TEXTS_PER_CLASS = 100
LEAST_TEXTS = 15
N_WORDS = 120
"""Number of masked words, each of which is a class."""


def domains(folder: Path, names: list[str]) -> Iterator[tuple[str, str, Corpus]]:
    """Domain, part and classes of each task that the corpora of these names give."""
    unlabelled: list[str] = []
    for name in names:
        if name in OF_ALL_CLASSES:
            parts = {"train": _few(Corpus.load(folder / name / "train.jsonl"))}
        else:
            corpus = Corpus.load(folder / name / "data.jsonl")
            split = corpus.split_classes(folder / name / "splits.json")
            parts = {part: _few(split[part]) for part in ("train", "validation")}
        for part, corpus in parts.items():
            yield name, part, corpus
        unlabelled += parts["train"].texts
    yield "masked words", "train", _few(masked_words(unlabelled, n_words=N_WORDS, least=LEAST_TEXTS, largest_share=1))


def _few(corpus: Corpus) -> Corpus:
    rows = of_each_class(corpus.labels, TEXTS_PER_CLASS, 0)
    return Corpus(tuple(corpus.texts[row] for row in rows), corpus.labels[rows], corpus.class_names, corpus.name)


def write(folder: Path, output: Path, without: Collection[str] = ()) -> None:
    """Write one corpus of the corpora in a folder, except those in `without`, and its class split."""
    names = [name for name in (*OF_ALL_CLASSES, *WITH_SPLIT) if name not in without]
    given = (json.loads((folder / name / "splits.json").read_text(encoding="utf-8")) for name in WITH_SPLIT)
    tested = {name for split in given for name in split["test"]}
    texts, splits = {}, {part: [] for part in PARTS}
    for domain, part, corpus in domains(folder, names):
        new = [name for name in corpus.class_names if all(name not in own for own in (tested, *splits.values()))]
        splits[part] += new
        for text, label in zip(corpus.texts, corpus.labels, strict=True):
            if (name := corpus.class_names[label]) in new:
                texts.setdefault(text, {"text": text, "label": name, "domain": domain})
    held_out = splits["validation"]
    splits |= {"validation": held_out[:-2], "test": held_out[-2:]}  # no part may be empty
    output.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in texts.values())
    (output / "data.jsonl").write_text("".join(lines), encoding="utf-8")
    (output / "splits.json").write_text(json.dumps(splits, indent=1) + "\n", encoding="utf-8")
    print(f"{len(texts)} texts; classes: {', '.join(f'{len(splits[part])} for {part}' for part in PARTS)}")


def main() -> None:
    """Write the corpus that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new corpus")
    parser.add_argument("--without", nargs="*", default=[], help="corpora that are left out")
    options = parser.parse_args()
    write(options.data, options.output, options.without)


if __name__ == "__main__":
    main()
