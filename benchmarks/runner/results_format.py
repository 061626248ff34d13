"""What the JSON files of a benchmark hold: one file for each cell, and results.json for all tables."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from benchmarks.runner.plan import PlotName


class Bin(TypedDict):
    """A bin of a reliability diagram: number of predictions, their mean confidence and their accuracy."""

    number: int
    confidence: float
    accuracy: float


class Facts(TypedDict):
    """What is known of a contender beside its scores.

    Attributes:
        classes_seen_in_training: names of tested classes that the init was trained or validated on.
        init_sha256: fingerprint of the init; "" for a fresh init and for baselines without a model.
        numbers_per_task: how many numbers an adapted task keeps beside the frozen backbone.
        numbers_of_init: how many numbers the init holds.
        training_seconds_per_task: median time of a training task.
        chosen_on_validation_classes: hyper-parameters of a baseline, by its name.
    """

    classes_seen_in_training: list[str]
    init_sha256: str
    numbers_per_task: NotRequired[int]
    numbers_of_init: NotRequired[int]
    training_seconds_per_task: NotRequired[float]
    chosen_on_validation_classes: NotRequired[Mapping[str, object]]


class CellResults(Facts):
    """The numbers of one cell with E episodes and C tested classes.

    Attributes:
        seconds_per_task: median time of a new task on one core.
        peak_megabytes: memory of a new task above the loaded backbone; None if it is unknown.
        accuracy: E accuracies, 0 to 1.
        macro_f1: E macro-F1 scores, 0 to 1.
        class_names: C names.
        confusion: C × C numbers of queries, by true and predicted class.
        calibration_error: expected calibration error, of contenders with probabilities.
        reliability: bins of the reliability diagram.
    """

    seconds_per_task: float
    peak_megabytes: float | None
    accuracy: list[float]
    macro_f1: list[float]
    class_names: list[str]
    confusion: list[list[int]]
    calibration_error: NotRequired[float]
    reliability: NotRequired[list[Bin]]


class ContenderResults(TypedDict):
    """The numbers of one contender: means over its trainings, episode by episode.

    Recorded results leave out what no table or figure of the documentation needs.
    """

    accuracy: float
    ci95: float
    macro_f1: float
    by_training: list[float]
    calibration_error: float | None
    classes_seen_in_training: list[str]
    init_sha256: list[str]
    seconds_per_task: NotRequired[float]
    peak_megabytes: NotRequired[float]
    numbers_per_task: NotRequired[float]
    numbers_of_init: NotRequired[float]
    training_seconds_per_task: NotRequired[float]
    chosen_on_validation_classes: NotRequired[Mapping[str, object]]
    classes: NotRequired[int]
    texts: NotRequired[int]
    class_names: NotRequired[list[str]]
    confusion: NotRequired[list[list[int]]]
    reliability: NotRequired[list[Bin]]
    per_episode: NotRequired[list[float]]
    per_episode_by_training: NotRequired[list[list[float]]]
    macro_f1_per_episode: NotRequired[list[list[float]]]


class PairedDifference(TypedDict):
    """Mean difference over the same episodes, half width of its interval, and p-value corrected by Holm's method."""

    difference: float
    ci95: float
    p_holm: float


class SettingResults(TypedDict):
    """The contenders of one corpus and setting, and the differences of all others to `compared_with`."""

    contenders: dict[str, ContenderResults]
    best_baseline: str | None
    compared_with: str | None
    paired: dict[str, PairedDifference]


CorpusResults = Mapping[str, SettingResults]
"""The results of one corpus by the name of the setting."""


class TableResults(TypedDict):
    """One table of a plan: its results by corpus and setting."""

    title: str
    plots: list[PlotName]
    settings: dict[str, dict[str, object]]
    corpora: dict[str, dict[str, SettingResults]]


class BenchmarkResults(TypedDict):
    """What results.json holds."""

    protocol: dict[str, object]
    tables: dict[str, TableResults]


def contender_names(settings: CorpusResults) -> list[str]:
    """Names of the contenders of any setting, in the order of the plan."""
    return list(dict.fromkeys(name for setting in settings.values() for name in setting["contenders"]))


def last_setting(settings: CorpusResults) -> tuple[str, Mapping[str, ContenderResults]]:
    """Name and contenders of the last setting of a corpus."""
    name, setting = list(settings.items())[-1]
    return name, setting["contenders"]
