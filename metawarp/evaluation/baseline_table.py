"""The baselines by name, each with its hyper-parameters chosen on validation classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from episodes import EpisodeSampler, InputError
from episodes.errors import listing
from metawarp import processes
from metawarp.evaluation import baselines
from metawarp.evaluation.baselines import SentenceEncoder
from metawarp.evaluation.cost import numbers_a_task
from metawarp.evaluation.scores import Predictor, score
from metawarp.inits.init import Init
from metawarp.model.warp import Warp


@dataclass(frozen=True, eq=False)
class Bench:
    """What the baselines are chosen with.

    Attributes:
        warp: the model of the init under test.
        init: the init itself, whose untrained twins are baselines.
        shots: numbers of shots of the test episodes.
        validation: makes a sampler over validation classes at a number of shots; None where there are no such classes.
        encode: what embeds texts for those baselines that have no prompt.
        validation_episodes: episodes that each hyper-parameter is chosen on.
        seed: of random starts.
    """

    warp: Warp
    init: Init
    shots: range
    validation: Callable[[int], EpisodeSampler] | None
    encode: SentenceEncoder
    validation_episodes: int = 100
    seed: int = 0

    def best(self, candidates: Sequence[float], make: Callable[[float], Predictor], shots: int) -> float:
        """The candidate with the highest accuracy on validation episodes; the first of equals."""
        assert self.validation is not None
        sampler = self.validation(shots)
        found = [score(make(value), sampler, self.validation_episodes).accuracy.mean() for value in candidates]
        return candidates[int(np.argmax(found))]


def named(names: Sequence[str], shots: int) -> list[str]:
    """The baselines meant by "all", "none" or their names.

    Args:
        names: what was asked for; "all" leaves out what needs support texts where there are none, and SetFit, which
            takes more time than all others together.
        shots: the smallest number of shots.

    Raises:
        InputError: an unknown name; "all" or "none" beside others; a baseline asked for by name that needs support
            texts at zero shots.
    """
    if list(names) == ["none"]:
        return []
    if list(names) == ["all"]:
        return [name for name, found in BASELINES.items() if found.in_all and (shots or not found.needs_support)]
    for word in ("all", "none"):
        if word in names:
            raise InputError(f"{word!r} stands for every baseline or for no one, and has no other name beside it.")
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise InputError(f"unknown baselines {listing(unknown)}; known: all, none, {listing(BASELINES)}.")
    alone = [name for name in names if not BASELINES[name].shares_episodes]
    if alone and processes.count() > 1:
        raise InputError(
            f"{listing(alone)} trains in all processes at once and cannot share episodes; measure it in one."
        )
    impossible = [name for name in names if BASELINES[name].needs_support]
    if impossible and not shots:
        raise InputError(f"at zero shots there is nothing that {listing(impossible)} could learn from; leave them out.")
    return list(names)


def build(names: Sequence[str], bench: Bench) -> tuple[dict[str, Predictor], dict[str, object]]:
    """Predictors of the named baselines, and the hyper-parameters chosen for them."""
    predictors: dict[str, Predictor] = {}
    chosen: dict[str, object] = {}
    for name in names:
        predictors[name], parameters = BASELINES[name].build(bench)
        if parameters:
            chosen[name] = parameters
    return predictors, chosen


def _prototypes(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    return partial(baselines.prototypes, bench.encode), {}


def _prototypes_and_names(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    def make(weight: float) -> Predictor:
        return partial(baselines.prototypes_and_names, bench.encode, {}, default=weight)

    grid = [round(0.05 * i, 2) for i in range(21)]
    if bench.validation is None:
        return partial(baselines.prototypes_and_names, bench.encode, {}), {"name_weight": "1 / (1 + K·e^m), not tuned"}
    weights = {shots: bench.best(grid, make, shots) for shots in bench.shots if shots}
    return partial(baselines.prototypes_and_names, bench.encode, weights), {
        "name_weight": {str(k): w for k, w in weights.items()}
    }


def _logistic_regression(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    def make(strength: float) -> Predictor:
        return partial(baselines.logistic_regression, bench.encode, strength)

    strength = 10.0
    if bench.validation is not None:
        strength = bench.best([0.1, 1.0, 10.0, 100.0], make, bench.shots[-1])
    return make(strength), {"C": strength}


def _tuned_rows(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    def make(rate: float) -> Predictor:
        return baselines.tuned_rows(bench.encode.warp, rate)

    rate = 1.0
    if bench.validation is not None and bench.shots[-1]:
        rate = bench.best([0.1, 0.3, 1.0, 3.0], make, bench.shots[-1])
    return make(rate), {"rate": rate}


def _support_rows(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    return baselines.support_rows(bench.warp), {}


def _warp_random(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    return baselines.untrained_warp(bench.warp, bench.init, "normal", bench.seed), {}


def _warp_mask(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    return baselines.untrained_warp(bench.warp, bench.init, "mask", bench.seed), {}


def _setfit(bench: Bench) -> tuple[Predictor, dict[str, object]]:
    baselines.setfit_library()  # now, not after the other methods have run
    return partial(baselines.setfit, bench.warp.backbone, bench.seed), {}


def _rows(bench: Bench, ways: int) -> int:
    return ways * bench.encode.warp.row_size


def _rows_with_bias(bench: Bench, ways: int) -> int:
    return ways * (bench.encode.warp.row_size + 1)


def _mask_rows(bench: Bench, ways: int) -> int:
    return ways * bench.warp.backbone.feature_size


def _as_the_init(bench: Bench, ways: int) -> int:
    return numbers_a_task(bench.warp, bench.init.inner, ways)


def _whole_model(bench: Bench, ways: int) -> int:
    return sum(weights.numel() for weights in bench.warp.backbone.model.parameters()) + _rows_with_bias(bench, ways)


@dataclass(frozen=True)
class Baseline:
    """A row of the table.

    Attributes:
        build: the predictor, and the hyper-parameters chosen for it.
        numbers: how many numbers a task of so many classes keeps beside the frozen backbone.
        needs_support: whether it says nothing about a class without support texts.
        has_model: whether it reads texts as the init's model does, and not as sentence embeddings.
        in_all: whether "all" means it too; not what takes more time than all others together.
        shares_episodes: whether several processes can share its episodes.
    """

    build: Callable[[Bench], tuple[Predictor, dict[str, object]]]
    numbers: Callable[[Bench, int], int] = _rows
    needs_support: bool = False
    has_model: bool = False
    in_all: bool = True
    shares_episodes: bool = True


BASELINES: dict[str, Baseline] = {
    "prototypes": Baseline(_prototypes, needs_support=True),
    "prototypes+names": Baseline(_prototypes_and_names),
    "logistic-regression": Baseline(_logistic_regression, _rows_with_bias, needs_support=True),
    "tuned-rows": Baseline(_tuned_rows),
    "repverb": Baseline(_support_rows, _mask_rows, needs_support=True, has_model=True),
    "warp-random": Baseline(_warp_random, _as_the_init, has_model=True),
    "warp-mask": Baseline(_warp_mask, _as_the_init, has_model=True),
    "setfit": Baseline(_setfit, _whole_model, needs_support=True, in_all=False, shares_episodes=False),
}
