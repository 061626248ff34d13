"""What a plan contains: tables of contenders × corpora × settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.runner.wrong_labels import WrongLabels
from episodes import Corpus, EpisodeSampler
from episodes.errors import InputError, listing, require_choice
from episodes.sampler import Range, Sampler
from episodes.schemas import Strict
from metawarp.backbones.backbone import TOKENS_PER_PASS
from metawarp.config import InnerLearningRates, InnerLossName, WarpConfig
from metawarp.evaluation.baselines import BASELINES
from metawarp.evaluation.scores import require_interval
from metawarp.meta_learning.table import DEFAULT_METHOD, MethodName
from metawarp.training.config import TrainingConfig

ALL = "all"
"""Value of `n_way` for episodes of all test classes."""

OTHERS = "others"
"""Value of `train_on` for the other corpora of the table."""

PlotName = Literal["dots", "lines", "curve", "matrix", "reliability", "confusion", "cost"]
"""Figures of a table; see `benchmarks.report.figures.PLOTS`."""


@dataclass(frozen=True)
class Setting(Strict):
    """Settings of the episodes that every contender is measured on.

    Args:
        n_way: number of classes per episode; "all" for every test class at once.
        k_shot: number of support texts per class, or a range (low, high).
        balanced: whether all classes of an episode have the same number of shots.
        wrong_labels: share of the support texts that have the label of another class.
        n_query: number of query texts per class.
        episodes: number of episodes.
        seed: seed of the episodes.
        inner_steps: number of inner steps of the inits; None: as many as they were trained with.

    Raises:
        InputError: a value is out of its range.
    """

    n_way: int | Literal["all"] = 5
    k_shot: Range = 1
    balanced: bool = True
    wrong_labels: float = 0.0
    n_query: int = 10
    episodes: int = 600
    seed: int = 0
    inner_steps: int | None = None

    def __post_init__(self) -> None:
        require_interval(self.episodes)

    def ways(self, n_classes: int) -> int:
        """Number of classes per episode if there are `n_classes` classes."""
        return n_classes if self.n_way == ALL else int(self.n_way)

    def sampler(self, tested: Corpus) -> Sampler:
        """The episodes over the tested classes; InputError if the corpus has too few classes or texts."""
        sampler = EpisodeSampler(
            tested, self.ways(tested.n_classes), self.k_shot, self.n_query, self.seed, balanced=self.balanced
        )
        return WrongLabels(sampler, self.wrong_labels, self.seed) if self.wrong_labels else sampler


@dataclass(frozen=True)
class TrainingArguments(Strict):
    """Arguments of `metawarp.train` that a plan may set; names, meanings and defaults are the same."""

    backbone: str = "minilm"
    device: str = "cpu"
    dtype: str = "float32"
    max_tokens: int = TOKENS_PER_PASS
    method: MethodName = DEFAULT_METHOD
    n_way: Range = 5
    k_shot: Range = (0, 5)
    n_query: int = 10
    balanced: bool = True
    within_domains: float = 0.0
    inner_steps: int | None = None
    inner_loss: InnerLossName = "support"
    inner_lr: InnerLearningRates = InnerLearningRates()
    model: WarpConfig = WarpConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True)
class Contender(Strict):
    """What is measured: a baseline, an existing init, or an init that the plan trains.

    Args:
        baseline: name of a baseline (see `BASELINES`); None for an init.
        init: folder of an existing init, or name of a shipped one; None: the init is trained. A baseline that reads
            texts with a model uses the template and the read-out of this init.
        training: arguments of the training.
        train_on: names of the corpora to train on; none: the tested corpus; "others": all other corpora of the table.
        classes: number of meta-training classes to keep of each corpus, the first of a shuffled order; None: all.
        texts: number of texts to keep of each of these classes; None: all.
        seeds: seeds of several trainings; accuracies are averaged over them, episode by episode.
        templates: templates of several trainings, averaged as well; none: the template of `training`.
        meta_trained: whether the init is trained; False measures the start of the training.

    Raises:
        InputError: arguments are of a wrong kind or do not go together.
    """

    baseline: str | None = None
    init: str | None = None
    training: TrainingArguments = TrainingArguments()
    train_on: Sequence[str] | Literal["others"] = ()
    classes: int | None = None
    texts: int | None = None
    seeds: Sequence[int] = (0,)
    templates: Sequence[str] = ()
    meta_trained: bool = True

    def __post_init__(self) -> None:
        if self.baseline is not None:
            require_choice("baseline", self.baseline, BASELINES)
        if not self.seeds:
            raise InputError("seeds=[] must be one or several integers.")
        if self.init is not None and (self.train_on or self.reduction or self.templates or not self.meta_trained):
            raise InputError(
                f"init={self.init!r} is trained already; leave out train_on, classes, texts, templates and "
                "meta_trained."
            )

    @property
    def needs_training(self) -> bool:
        """Whether it is an init that the plan trains."""
        return self.baseline is None and self.init is None and self.meta_trained

    @property
    def reads_model(self) -> bool:
        """Whether it depends on the model of an init; other baselines read sentence embeddings."""
        return self.baseline is None or BASELINES[self.baseline].reads_model

    @property
    def reduction(self) -> dict[str, int]:
        """Numbers of "classes" and "texts" that it may learn from, if they are limited."""
        numbers = {"classes": self.classes, "texts": self.texts}
        return {name: number for name, number in numbers.items() if number is not None}


@dataclass(frozen=True)
class Table(Strict):
    """Contenders on the test classes of some corpora.

    Args:
        title: what the table shows.
        corpora: names of bundled corpora, or of folders with data.jsonl and splits.json.
        settings: settings by name.
        contenders: contenders by name.
        plots: figures of the table.
        compare_with: name of the contender that the others are compared with; "": the best baseline of each setting.

    Raises:
        InputError: arguments are of a wrong kind or do not go together.
    """

    title: str
    corpora: Sequence[str]
    settings: Mapping[str, Setting]
    contenders: Mapping[str, Contender]
    plots: Sequence[PlotName] = ("dots",)
    compare_with: str = ""

    def __post_init__(self) -> None:
        if self.compare_with:
            require_choice("compare_with", self.compare_with, self.contenders)
        impossible = [name for name, contender in self.contenders.items() if contender.train_on == OTHERS]
        if impossible and len(self.corpora) < 2:
            raise InputError(
                f"train_on='{OTHERS}' of {listing(impossible)} needs a second corpus beside {listing(self.corpora)}."
            )


@dataclass(frozen=True)
class Plan:
    """What a benchmark measures.

    Args:
        tables: tables by name.
        search: how the settings of the trainings were chosen, and on which classes; "" if nobody says.
    """

    tables: Mapping[str, Table]
    search: str = ""
