"""Which classes an init is trained on, validated on, tested on: disjoint lists of class names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import InputError, first_line, listing
from episodes.reading import BUNDLED

PARTS = ("train", "validation", "test")


def class_partition(
    class_names: Sequence[str],
    recipe: Sequence[float] | Mapping[str, Sequence[str]] | str | Path,
    seed: int,
    corpus_name: str,
) -> dict[str, list[str]]:
    """The class names of each part; every class stands in exactly one.

    Args:
        class_names: the C different names to divide.
        recipe: three fractions, a dict or a splits.json of names, or a bundled corpus; see `Corpus.split_classes`.
        seed: of the draw from fractions, at least 0.
        corpus_name: what messages call the corpus.

    Raises:
        InputError: see `Corpus.split_classes`.
    """
    if isinstance(recipe, (str, Path)):
        names = _named_parts(_read_json(recipe), str(recipe))
    elif isinstance(recipe, Mapping):
        names = _named_parts(recipe, "The split")
    else:
        return _drawn_parts(class_names, recipe, seed, corpus_name)
    refuse_overlap(names)
    assigned = {name for part in PARTS for name in names[part]}
    unknown = [name for part in PARTS for name in names[part] if name not in class_names]
    if unknown:
        raise InputError(f"The split names classes that {corpus_name} does not have: {listing(map(repr, unknown))}.")
    left_out = [name for name in class_names if name not in assigned]
    if left_out:
        raise InputError(f"The split leaves out classes of {corpus_name}: {listing(map(repr, left_out))}.")
    return names


def _drawn_parts(
    class_names: Sequence[str], fractions: Sequence[float], seed: int, corpus_name: str
) -> dict[str, list[str]]:
    numbers = [share for share in fractions if isinstance(share, (int, float)) and share > 0]
    if not len(numbers) == len(fractions) == 3 or abs(sum(numbers) - 1) > 1e-6:
        raise InputError(
            "Fractions must be three positive numbers (train, validation, test) that add up to 1, "
            f"such as 0.6, 0.15, 0.25; they are {listing(fractions)}."
        )
    if seed < 0:
        raise InputError(f"The seed must be at least 0; it is {seed}.")
    # An episode needs two classes, so a small share is rounded up to two rather than refused.
    validation, test = (max(2, round(share * len(class_names))) for share in numbers[1:])
    train = len(class_names) - validation - test
    if train < 2:
        raise InputError(
            f"{corpus_name} has {len(class_names)} classes, too few for at least 2 in each part with the "
            f"fractions {listing(fractions)}; add classes or change the fractions."
        )
    names = list(class_names)
    order = np.random.default_rng(seed).permutation(len(names))
    parts = np.split(order, [train, train + validation])
    return {part: [names[i] for i in sorted(rows.tolist())] for part, rows in zip(PARTS, parts, strict=True)}


def _read_json(source: str | Path) -> Any:
    path = Path(source).expanduser()
    try:
        if source in BUNDLED:
            return json.loads((files("episodes") / f"data/{source}.splits.json").read_text(encoding="utf-8"))
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}).") from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(f"{path} is not valid JSON in UTF-8 ({error}).") from None


def _named_parts(content: Any, name: str) -> dict[str, list[str]]:
    if not isinstance(content, Mapping) or any(part not in content for part in PARTS):
        found = listing(map(repr, content)) if isinstance(content, Mapping) else type(content).__name__
        raise InputError(
            f"{name} must hold the lists 'train', 'validation' and 'test' of class names; it holds {found}."
        )
    for part in PARTS:
        names = content[part]
        if (
            not isinstance(names, Sequence)
            or isinstance(names, str)
            or not all(isinstance(n, (str, int)) for n in names)
        ):
            raise InputError(f"{name}: {part!r} must be a list of class names.")
    # As `Corpus.load` does with labels: whole numbers count as their digits, spaces around names do not.
    return {part: [str(class_name).strip() for class_name in content[part]] for part in PARTS}


def refuse_overlap(names: Mapping[str, Sequence[str]]) -> None:
    """Refuse a class name that stands in two of the `PARTS`.

    Raises:
        InputError: lists the names in question.
    """
    everything = [name for part in PARTS for name in names[part]]
    twice = [name for i, name in enumerate(everything) if name in everything[:i]]
    if twice:
        raise InputError(
            f"The parts of a split must not overlap; these classes stand twice: {listing(map(repr, twice))}."
        )
