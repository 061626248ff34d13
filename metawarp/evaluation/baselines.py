"""The baselines by name, with hyper-parameters chosen on validation classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from episodes import EpisodeSampler
from episodes.errors import InputError, listing
from metawarp.evaluation import sentence_baselines
from metawarp.evaluation.predictors import Predictor
from metawarp.evaluation.scores import mean_accuracy
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.evaluation.setfit import require_setfit, setfit
from metawarp.evaluation.untrained_baselines import repverb, tuned_class_embeddings, untrained_warp
from metawarp.inits.init import Init
from metawarp.processes import SINGLE, Processes
from metawarp.warp import Warp

Hyperparameters = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class BaselineContext:
    """What baselines are created from.

    Attributes:
        warp: model of the evaluated init.
        init: the evaluated init, whose untrained versions are baselines.
        encode: encoder of the baselines that have no prompt.
        shots: numbers of shots of the test episodes.
        validation: from a number of shots to a sampler over the validation classes; None if there are none.
        validation_episodes: number of episodes that each hyper-parameter is chosen on.
        seed: seed of random starts.
        processes: processes that share the episodes.
    """

    warp: Warp
    init: Init
    encode: SentenceEncoder
    shots: range
    validation: Callable[[int], EpisodeSampler] | None
    validation_episodes: int = 100
    seed: int = 0
    processes: Processes = SINGLE

    def best(self, candidates: Sequence[float], create: Callable[[float], Predictor], shots: int) -> float:
        """The candidate with the highest accuracy on validation episodes; the first of equals."""
        assert self.validation is not None
        episodes = self.validation(shots), self.validation_episodes, self.processes
        return candidates[int(np.argmax([mean_accuracy(create(value), *episodes) for value in candidates]))]


@dataclass(frozen=True)
class Baseline:
    """A baseline: how its predictor is created, and when it can be used.

    Attributes:
        create: function from the context to the predictor and the hyper-parameters chosen for it.
        needs_support: whether every class needs support texts.
        reads_model: whether it reads texts with the init's model, and not as sentence embeddings.
        in_all: whether "all" includes it; false for what takes longer than all others together.
        shares_episodes: whether several processes can share its episodes.
    """

    create: Callable[[BaselineContext], tuple[Predictor, Hyperparameters]]
    needs_support: bool = False
    reads_model: bool = False
    in_all: bool = True
    shares_episodes: bool = True


def baseline_names(names: Sequence[str], shots: int, processes: Processes = SINGLE) -> list[str]:
    """The names of the baselines that "all", "none" or a list of names stands for; InputError if one cannot be used.

    With 0 as the smallest number of shots, "all" leaves out baselines that need support texts. It never has SetFit.
    """
    if list(names) == ["none"]:
        return []
    if list(names) == ["all"]:
        return [name for name, row in BASELINES.items() if row.in_all and (shots or not row.needs_support)]
    if unknown := [name for name in names if name not in BASELINES]:
        allowed = f"all, none, or names of: {listing(BASELINES)}"
        raise InputError(f"baselines={listing(names)} must be {allowed}; unknown here: {listing(unknown)}.")
    alone = [name for name in names if not BASELINES[name].shares_episodes]
    if alone and processes.count > 1:
        raise InputError(f"baselines={listing(alone)} cannot share episodes between processes; use one process.")
    impossible = [name for name in names if BASELINES[name].needs_support]
    if impossible and not shots:
        raise InputError(f"baselines={listing(impossible)} need support texts, but k_shot=0; leave them out.")
    return list(names)


def create_baselines(
    names: Sequence[str], context: BaselineContext
) -> tuple[dict[str, Predictor], dict[str, Hyperparameters]]:
    """Predictors of the named baselines, and the hyper-parameters chosen for them."""
    created = {name: BASELINES[name].create(context) for name in names}
    predictors = {name: predictor for name, (predictor, _) in created.items()}
    return predictors, {name: chosen for name, (_, chosen) in created.items() if chosen}


def _prototypes_and_names(context: BaselineContext) -> tuple[Predictor, Hyperparameters]:
    predict = partial(sentence_baselines.prototypes_and_names, context.encode)
    encode = sentence_baselines.memoized(context.encode, context.validation_episodes)

    def create(weight: float) -> Predictor:
        return partial(sentence_baselines.prototypes_and_names, encode, {}, default=weight)

    if context.validation is None:
        return partial(predict, {}), {"name_weight": "1 / (1 + K·e^m), not tuned"}
    grid = [round(0.05 * i, 2) for i in range(21)]
    weights = {shots: context.best(grid, create, shots) for shots in context.shots if shots}
    return partial(predict, weights), {"name_weight": {str(k): w for k, w in weights.items()}}


def _logistic_regression(context: BaselineContext) -> tuple[Predictor, Hyperparameters]:
    encode = sentence_baselines.memoized(context.encode, context.validation_episodes)
    create = partial(partial, sentence_baselines.logistic_regression, encode)
    grid = [0.1, 1.0, 10.0, 100.0]
    strength = 10.0 if context.validation is None else context.best(grid, create, context.shots[-1])
    return partial(sentence_baselines.logistic_regression, context.encode, strength), {"C": strength}


def _tuned_class_embeddings(context: BaselineContext) -> tuple[Predictor, Hyperparameters]:
    create = partial(tuned_class_embeddings, context.encode)
    tunable = context.validation is not None and context.shots[-1]
    rate = context.best([0.1, 0.3, 1.0, 3.0], create, context.shots[-1]) if tunable else 1.0
    return create(rate), {"rate": rate}


def _setfit(context: BaselineContext) -> tuple[Predictor, Hyperparameters]:
    require_setfit()  # now, not after the other methods have run
    return partial(setfit, context.warp.backbone, context.seed), {}


BASELINES: dict[str, Baseline] = {
    "prototypes": Baseline(lambda c: (partial(sentence_baselines.prototypes, c.encode), {}), needs_support=True),
    "prototypes+names": Baseline(_prototypes_and_names),
    "logistic-regression": Baseline(_logistic_regression, needs_support=True),
    "tuned-class-embeddings": Baseline(_tuned_class_embeddings),
    "repverb": Baseline(lambda c: (repverb(c.warp), {}), needs_support=True, reads_model=True),
    "warp-random": Baseline(lambda c: (untrained_warp(c.warp, c.init, "normal", c.seed), {}), reads_model=True),
    "warp-mask": Baseline(lambda c: (untrained_warp(c.warp, c.init, "mask", c.seed), {}), reads_model=True),
    "setfit": Baseline(_setfit, needs_support=True, in_all=False, shares_episodes=False),
}
