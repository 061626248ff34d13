"""One corpus of tasks of many kinds, for meta-training: questions, opinions, intents, news, and words that are masked.

    python -m benchmarks.kinds --data FOLDER --output runs/kinds --without trec huffpost

Each corpus is a domain, so that the classes of an episode belong to one task, and every task is equally likely. Of a
corpus with a class split, its training and validation classes are used; of the others, all classes, for training. A
class whose name an earlier corpus has, or a test class of any corpus, is left out. With --made, further domains are
made from the training texts; each text belongs to one class of one domain. Writes data.jsonl and splits.json; the last
two validation classes are its test part.
"""

import argparse
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from benchmarks.draws import of_each_class
from episodes import Corpus
from episodes.derived import masked_words, merged_classes, opposed_class
from episodes.splits import PARTS

OF_ALL_CLASSES = ("trec", "tweets_emotion", "tweets_irony", "tweets_offensive", "tweets_sentiment")
"""Corpora with a train.jsonl, all of whose classes are trained on."""

WITH_SPLIT = ("hwu64", "huffpost", "reuters")
"""Corpora with a data.jsonl and a splits.json."""

TEXTS_PER_CLASS = 100
LEAST_TEXTS = 15
"""Smallest number of texts of a class that is made."""

LEAST_LEFT = 12
"""The same, after texts were left to the domains that had them before."""

N_WORDS = 120
"""Number of masked words, each of which is a class."""

N_CLUSTERS, N_FEATURES = 60, 100
"""Number of clusters of texts, each of which is a class, and of the features that they are found with."""


MADE = ("masked", "merged", "opposed", "clusters")
"""The kinds of tasks that can be made from texts, or from the classes of a corpus."""

DEFAULT_MADE: Sequence[str] = ("masked",)
"""Those that the inits which ship are trained on."""

N_OPPOSED = 2
"""Number of classes of each corpus that are opposed to its others."""


def domains(folder: Path, names: Sequence[str], made: Collection[str]) -> Iterator[tuple[str, str, Corpus]]:
    """Domain, part and classes of each task that the corpora of these names give."""
    used, unused = list[str](), list[str]()
    for name in names:
        if name in OF_ALL_CLASSES:
            parts = {"train": Corpus.load(folder / name / "train.jsonl")}
        else:
            corpus = Corpus.load(folder / name / "data.jsonl")
            split = corpus.split_classes(folder / name / "splits.json")
            parts = {part: split[part] for part in ("train", "validation")}
        for part, corpus in parts.items():
            rows = of_each_class(corpus.labels, TEXTS_PER_CLASS, 0)
            yield name, part, _of_rows(corpus, rows)
            if part == "train":
                others = _others(corpus, rows)
                used += [corpus.texts[row] for row in rows]
                unused += [] if others is None else _few(others).texts
                yield from _of_classes(name, others, made)
    if "masked" in made:
        corpus = masked_words(used, n_words=N_WORDS, least=LEAST_TEXTS, largest_share=1)
        yield "masked words", "train", _few(corpus)
    if "clusters" in made:
        yield "clusters", "train", _clusters(unused)


def _of_classes(name: str, corpus: Corpus | None, made: Collection[str]) -> Iterator[tuple[str, str, Corpus]]:
    """Tasks with other classes than those of a corpus, from texts of their own."""
    if corpus is not None and "merged" in made and corpus.n_classes > 3:
        merged = merged_classes(_few(corpus))
        yield f"{name}, merged", "train", _few(merged)
        corpus = _others(corpus, of_each_class(corpus.labels, TEXTS_PER_CLASS, 0))
    if corpus is not None and "opposed" in made and corpus.n_classes > 2:
        for number, positive in enumerate(np.random.default_rng(0).permutation(corpus.class_names)[:N_OPPOSED]):
            opposed = _few(opposed_class(corpus, str(positive), seed=number))
            unique = (str(positive).upper(), f"other {name} {number}")  # uncased backbones read the same words
            yield f"{name}, {positive} or not", "train", replace(opposed, class_names=unique)


def _clusters(texts: Sequence[str]) -> Corpus:
    """A corpus of texts that share words; its classes have no names."""
    unique = list(dict.fromkeys(texts))
    features = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), TruncatedSVD(N_FEATURES, random_state=0))
    labels = KMeans(N_CLUSTERS, random_state=0).fit_predict(features.fit_transform(unique))
    corpus = Corpus(tuple(unique), labels, tuple(f"cluster {i}" for i in range(N_CLUSTERS)), "clusters")
    return _few(corpus)


def _few(corpus: Corpus) -> Corpus:
    return _of_rows(corpus, of_each_class(corpus.labels, TEXTS_PER_CLASS, 0))


def _of_rows(corpus: Corpus, rows: np.ndarray) -> Corpus:
    return Corpus(tuple(corpus.texts[row] for row in rows), corpus.labels[rows], corpus.class_names, corpus.name)


def _others(corpus: Corpus, rows: np.ndarray) -> Corpus | None:
    """The other rows of a corpus, without classes of few texts; None if there are not two classes."""
    others = np.setdiff1d(np.arange(len(corpus)), rows)
    numbers = np.bincount(corpus.labels[others], minlength=corpus.n_classes)
    names = [name for name, number in zip(corpus.class_names, numbers, strict=True) if number >= LEAST_TEXTS]
    return _of_rows(corpus, others).select_classes(names) if len(names) > 1 else None


def write(folder: Path, output: Path, without: Collection[str] = (), made: Collection[str] = DEFAULT_MADE) -> None:
    """Write one corpus of the corpora in a folder, except those in `without`, with tasks that are made of them, and its
    class split."""
    names = [name for name in (*OF_ALL_CLASSES, *WITH_SPLIT) if name not in without]
    given = (json.loads((folder / name / "splits.json").read_text(encoding="utf-8")) for name in WITH_SPLIT)
    tested = {name for split in given for name in split["test"]}
    texts, splits = {}, {part: [] for part in PARTS}
    for domain, part, corpus in domains(folder, names, made):
        new = [name for name in corpus.class_names if all(name not in own for own in (tested, *splits.values()))]
        splits[part] += new
        for text, label in zip(corpus.texts, corpus.labels, strict=True):
            if (name := corpus.class_names[label]) in new:
                texts.setdefault(text, {"text": text, "label": name, "domain": domain})
    counts = Counter(line["label"] for line in texts.values())
    few = {name for name, number in counts.items() if number < LEAST_LEFT}
    texts = {text: line for text, line in texts.items() if line["label"] not in few}
    splits = {part: [name for name in own if name in counts and name not in few] for part, own in splits.items()}
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
    parser.add_argument("--made", nargs="*", default=DEFAULT_MADE, choices=MADE, help="kinds of tasks that are made")
    options = parser.parse_args()
    write(options.data, options.output, options.without, options.made)


if __name__ == "__main__":
    main()
