"""The class names of each part of a split: meta-training, validation and test, which share no class."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import InputError, first_line, listing, quoted, repeated
from episodes.paths import user_path
from episodes.reading import BUNDLED
from episodes.schemas import Strict, parsed

PARTS = ("train", "validation", "test")
"""Names of the parts of a split."""


@dataclass(frozen=True)
class SplitFile(Strict):
    """The content of a splits.json: the class names of each part."""

    train: list[str | int]
    validation: list[str | int]
    test: list[str | int]


def class_partition(
    class_names: Sequence[str],
    recipe: Sequence[float] | Mapping[str, Sequence[str]] | str | Path,
    seed: int,
    corpus_name: str,
) -> dict[str, list[str]]:
    """The class names of each part; every class is in exactly one. See `Corpus.split_classes` for recipe and errors."""
    if isinstance(recipe, (str, Path)):
        names = _named_parts(_read_json(recipe), str(recipe))
    elif isinstance(recipe, Mapping):
        names = _named_parts(dict(recipe), "The split")
    else:
        return _drawn_parts(class_names, recipe, seed, corpus_name)
    require_disjoint(names)
    assigned = [name for part in PARTS for name in names[part]]
    if unknown := [name for name in assigned if name not in class_names]:
        raise InputError(f"The split names classes that {corpus_name} does not have: {quoted(unknown)}.")
    if left_out := [name for name in class_names if name not in assigned]:
        raise InputError(f"The split leaves out classes of {corpus_name}: {quoted(left_out)}.")
    return names


def require_disjoint(names: Mapping[str, Sequence[str]]) -> None:
    """Check that the `PARTS` name no class twice; InputError lists the names that appear more than once."""
    if duplicates := repeated(name for part in PARTS for name in names[part]):
        raise InputError(f"A split must name each class once; these appear more than once: {quoted(duplicates)}.")


def _drawn_parts(
    class_names: Sequence[str], fractions: Sequence[float], seed: int, corpus_name: str
) -> dict[str, list[str]]:
    numbers = [share for share in fractions if isinstance(share, (int, float)) and share > 0]
    if not len(numbers) == len(fractions) == 3 or abs(sum(numbers) - 1) > 1e-6:
        needed = "three positive numbers (train, validation, test) that add up to 1, such as 0.6, 0.15, 0.25"
        raise InputError(f"The fractions of a split must be {needed}; they are {listing(fractions)}.")
    if seed < 0:
        raise InputError(f"seed={seed} must be at least 0.")
    # An episode needs two classes, so a small share is rounded up to two rather than refused.
    n_classes = len(class_names)
    validation, test = (max(2, round(share * n_classes)) for share in numbers[1:])
    train = n_classes - validation - test
    if train < 2:
        problem = f"the fractions {listing(fractions)} leave fewer than 2 for meta-training"
        raise InputError(f"{corpus_name} has {n_classes} classes, and {problem}; add classes or change the fractions.")
    parts = np.split(np.random.default_rng(seed).permutation(n_classes), [train, train + validation])
    return {part: [class_names[int(i)] for i in sorted(rows)] for part, rows in zip(PARTS, parts, strict=True)}


def _read_json(source: str | Path) -> Any:
    path = files("episodes") / f"data/{source}.splits.json" if source in BUNDLED else user_path(source)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}).") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise InputError(f"{path} is not valid JSON in UTF-8 ({error}).") from None


def _named_parts(content: Any, source: str) -> dict[str, list[str]]:
    named = parsed(SplitFile, content, source)
    # As in `Corpus.load`, integers become their digits and names lose surrounding white space.
    return {part: [str(name).strip() for name in getattr(named, part)] for part in PARTS}
