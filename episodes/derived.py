"""Further corpora, made from texts or from the classes of a corpus: tasks of other kinds than those that people label.

References:
    Bansal, Jha, Munkhdalai, McCallum (2020), "Self-Supervised Meta-Learning for Few-Shot Natural Language
    Classification Tasks", EMNLP, sec. 3.1 (subset masked language modeling tasks).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from episodes.corpus import Corpus
from episodes.errors import InputError

GAP = "_"
"""What stands in place of a masked word, as in a cloze test."""

_WORD = re.compile(r"[^\W\d_]{3,}")


def masked_words(
    texts: Iterable[str],
    *,
    n_words: int = 200,
    least: int = 20,
    largest_share: float = 0.02,
    name: str = "masked words",
) -> Corpus:
    """A corpus whose classes are words: which word was it, in a text in which it is masked?

    Each text belongs to the rarest word of its own that is a class, so that common words do not take the texts of all
    others. White space and upper case play no part in what counts as the same word.

    Args:
        texts: texts without labels.
        n_words: largest number of words.
        least: smallest number of texts of a word.
        largest_share: largest share of all texts that may contain a word; words in more of them say little.
        name: name of the corpus.

    Raises:
        InputError: fewer than two words are frequent enough.
    """
    unique = list(dict.fromkeys(text.strip() for text in texts))
    words_of = [dict.fromkeys(word.lower() for word in _WORD.findall(text)) for text in unique]
    counts = Counter(word for words in words_of for word in words)
    limit = max(largest_share * len(unique), least)
    frequent = {word: count for word, count in counts.items() if least <= count <= limit}
    rows_of: dict[str, list[int]] = {}
    for row, words in enumerate(words_of):
        if own := [word for word in words if word in frequent]:
            rows_of.setdefault(min(own, key=lambda word: (frequent[word], word)), []).append(row)
    masked = {word: _masked([unique[row] for row in rows], word) for word, rows in rows_of.items()}
    order = sorted((word for word in masked if len(masked[word]) >= least), key=lambda word: (-len(masked[word]), word))
    if len(chosen := sorted(order[:n_words])) < 2:
        problem = f"{len(chosen)} words are in {least} texts or more, and in at most {largest_share:.0%} of them"
        raise InputError(f"Tasks of masked words need at least 2 words, but {problem}; give more texts.")
    return _corpus({word: masked[word] for word in chosen}, name)


def merged_classes(corpus: Corpus, group_size: int = 2, seed: int = 0) -> Corpus:
    """A corpus whose classes are groups of so many classes, drawn at random; those that are left over are dropped.

    The name of a group is those of its classes with "or" between them. InputError if there are not two groups.
    """
    order = np.random.default_rng(seed).permutation(corpus.n_classes)
    n_groups = corpus.n_classes // group_size
    if group_size < 2 or n_groups < 2:
        problem = f"{corpus.name} has {corpus.n_classes} classes, which are not two groups of {group_size}"
        raise InputError(f"{problem}; group_size must be at least 2 and at most half of the classes.")
    groups = [sorted(group) for group in order[: n_groups * group_size].reshape(n_groups, group_size).tolist()]
    texts = {" or ".join(corpus.class_names[c] for c in group): _texts_of(corpus, group) for group in sorted(groups)}
    return _corpus(texts, f"{corpus.name}, merged by {group_size}")


def opposed_class(corpus: Corpus, class_name: str, seed: int = 0) -> Corpus:
    """A corpus of two classes: one class, and as many texts of all others, drawn at random, which are called "other".

    InputError if there is no such class.
    """
    if class_name not in corpus.class_names:
        raise InputError(f"{corpus.name} has no class {class_name!r}.")
    index = corpus.class_names.index(class_name)
    own = _texts_of(corpus, [index])
    others = _texts_of(corpus, [c for c in range(corpus.n_classes) if c != index])
    drawn = np.random.default_rng(seed).permutation(len(others))[: max(len(own), 1)]
    texts = {class_name: own, "other": [others[row] for row in sorted(drawn.tolist())]}
    return _corpus(texts, f"{corpus.name}, {class_name} or not")


def _masked(texts: Sequence[str], word: str) -> list[str]:
    """The texts with a gap in place of a word, without those that are the same then."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    return list(dict.fromkeys(pattern.sub(GAP, text) for text in texts))


def _texts_of(corpus: Corpus, classes: Sequence[int]) -> list[str]:
    return [corpus.texts[row] for c in classes for row in corpus.rows_of(c)]


def _corpus(texts: dict[str, list[str]], name: str) -> Corpus:
    """The corpus of these texts by class name; a text that two classes have is left out."""
    counts = Counter(text for own in texts.values() for text in own)
    kept = {class_name: [text for text in own if counts[text] == 1] for class_name, own in texts.items()}
    labels = np.repeat(np.arange(len(kept)), [len(own) for own in kept.values()])
    return Corpus(tuple(text for own in kept.values() for text in own), labels, tuple(kept), name)
