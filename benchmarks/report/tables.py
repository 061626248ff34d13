"""The results of a benchmark as tables in Markdown: accuracy, calibration and cost."""

from collections.abc import Iterator, Sequence
from statistics import stdev
from typing import NamedTuple

from benchmarks.runner.results import COSTS, Cost
from benchmarks.runner.results_format import (
    ContenderResults,
    CorpusResults,
    SettingResults,
    TableResults,
    contender_names,
    last_setting,
)

MISSING = "–"
"""Cell of a contender that is not measured in a setting."""

SIGNIFICANT = 0.05
"""Largest p-value, after Holm's correction, of a difference that is marked."""

NOTE = (
    "Accuracy in percent, mean ± 95 % interval over episodes that are the same for every row. In parentheses: the"
    " paired difference to the row of the column that has none, which is the best baseline unless the table names"
    " another one; with * if such a difference is unlikely to be chance (p < 0.05 after Holm's correction for the"
    " number of comparisons). sd is the standard deviation over several trainings. † marks inits that were "
    "trained on classes with the same names as some of the tested ones."
)

COST_COLUMNS: dict[Cost, tuple[str, str]] = {
    "seconds_per_task": ("seconds per task, one core", "{:.3g}"),
    "peak_megabytes": ("megabytes above the backbone", "{:,.0f}"),
    "numbers_per_task": ("numbers per task", "{:,.0f}"),
    "numbers_of_init": ("numbers of the init", "{:,.0f}"),
    "training_seconds_per_task": ("seconds per training task", "{:.2f}"),
}
"""Header and format of each cost."""


class Rows(NamedTuple):
    """A table: the header, and the rows below it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        first, *others = (f"| {' | '.join(cells)} |" for cells in (self.header, *self.rows))
        return "\n".join([first, "|---" * len(self.header) + "|", *others])


def accuracy_rows(corpus: str, settings: CorpusResults, *, differences: bool = True) -> Rows:
    """Accuracies on one corpus: a row for each contender, a column for each setting.

    Args:
        corpus: name of the corpus.
        settings: results of the corpus.
        differences: whether paired differences and standard deviations follow the accuracies.
    """
    rows = []
    for name in contender_names(settings):
        trainings = max(
            len(setting["contenders"][name]["by_training"])
            for setting in settings.values()
            if name in setting["contenders"]
        )
        label = f"{name} ({trainings} trainings)" if differences and trainings > 1 else name
        rows.append([label, *(_accuracy(setting, name, differences) for setting in settings.values())])
    return Rows([corpus, *settings], rows)


def calibration_rows(corpus: str, settings: CorpusResults) -> Rows:
    """Expected calibration errors on one corpus, of the contenders that have probabilities."""
    rows = []
    for name in contender_names(settings):
        errors = [
            setting["contenders"][name]["calibration_error"] if name in setting["contenders"] else None
            for setting in settings.values()
        ]
        if any(error is not None for error in errors):
            rows.append([name, *(MISSING if error is None else f"{100 * error:.1f}" for error in errors)])
    return Rows([f"{corpus}, expected calibration error (%)", *settings], rows)


def cost_rows(corpus: str, settings: CorpusResults) -> Rows:
    """Cost of a new task in the last setting of one corpus; costs that nobody has are left out."""
    setting, contenders = last_setting(settings)
    measured: list[Cost] = [cost for cost in COSTS if any(cost in contender for contender in contenders.values())]
    rows = []
    for name, contender in contenders.items():
        rows.append([name, *(_cost(contender, cost) for cost in measured)])
    return Rows([f"{corpus}, a new task ({setting})", *(COST_COLUMNS[cost][0] for cost in measured)], rows)


def all_rows(table: TableResults) -> Iterator[Rows]:
    """All tables of a table of the plan, corpus by corpus: accuracy, and what belongs to its figures."""
    for corpus, settings in table["corpora"].items():
        yield accuracy_rows(corpus, settings)
        if "reliability" in table["plots"]:
            yield calibration_rows(corpus, settings)
        if "cost" in table["plots"]:
            yield cost_rows(corpus, settings)


def n_episodes(table: TableResults) -> str:
    """The number of episodes of each setting, as a sentence."""
    numbers = {name: setting["episodes"] for name, setting in table["settings"].items()}
    if len(set(numbers.values())) == 1:
        return f"{next(iter(numbers.values()))} episodes."
    return f"Episodes: {', '.join(f'{number} ({name})' for name, number in numbers.items())}."


def percent(share: float, *, signed: bool = False) -> str:
    """A share in percent with one decimal and a proper minus sign; without a sign if it rounds to zero."""
    rounded = round(100 * share, 1) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", "−")


def _cost(contender: ContenderResults, cost: Cost) -> str:
    value = contender.get(cost)
    return MISSING if value is None else COST_COLUMNS[cost][1].format(value)


def _accuracy(setting: SettingResults, name: str, differences: bool) -> str:
    contender, paired = setting["contenders"].get(name), setting["paired"].get(name)
    if contender is None:
        return MISSING
    cell = f"{percent(contender['accuracy'])} ± {percent(contender['ci95'])}"
    notes = []
    if paired and differences:
        star = "*" if paired["p_holm"] < SIGNIFICANT else ""
        notes.append(f"{percent(paired['difference'], signed=True)} ± {percent(paired['ci95'])}{star}")
    if differences and len(contender["by_training"]) > 1:
        notes.append(f"sd {percent(stdev(contender['by_training']))}")
    cell += f" ({', '.join(notes)})" if notes else ""
    return f"{cell} †" if contender["classes_seen_in_training"] else cell
