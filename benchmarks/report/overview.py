"""The table of the README: accuracy of a few methods on three corpora."""

from collections.abc import Mapping

from benchmarks.report.tables import Rows, percent
from benchmarks.runner.results_format import TableResults

CORPORA = {
    "news headlines (HuffPost)": ("huffpost", ("general", "main")),
    "spoken intents (HWU64)": ("hwu64", ("general", "intents")),
    "news articles (Reuters)": ("reuters", ("articles", "long")),
}
"""For each column the corpus, and the tables of the plan with its numbers; the first one with a contender counts."""

CONTENDERS = {
    "metawarp, meta-trained on related classes": "metawarp",
    "metawarp, the shipped init `general`": "general",
    "prototypes mixed with class names": "prototypes+names",
    "logistic regression": "logistic-regression",
}
"""For each row the name of the contender."""

SETTINGS = ("5-way 1-shot", "5-way 5-shot")


def overview_rows(tables: Mapping[str, TableResults]) -> Rows:
    """Accuracies of `CONTENDERS` on `CORPORA` with 1 and 5 examples per class; the best of each column is bold.

    Args:
        tables: recorded tables by name.
    """
    accuracy = {
        (column, setting, row): _accuracy(tables, corpus, names, setting, contender)
        for column, (corpus, names) in CORPORA.items()
        for setting in SETTINGS
        for row, contender in CONTENDERS.items()
    }

    def cell(column: str, row: str) -> str:
        numbers = []
        for setting in SETTINGS:
            best = max(accuracy[column, setting, other] for other in CONTENDERS)
            number = percent(accuracy[column, setting, row])
            numbers.append(f"**{number}**" if number == percent(best) else number)
        return " / ".join(numbers)

    rows = [["examples per class", *("1 / 5" for _ in CORPORA)]]
    rows += [[row, *(cell(column, row) for column in CORPORA)] for row in CONTENDERS]
    return Rows(["", *CORPORA], rows)


def _accuracy(
    tables: Mapping[str, TableResults], corpus: str, names: tuple[str, ...], setting: str, contender: str
) -> float:
    for name in names:
        contenders = tables[name]["corpora"][corpus][setting]["contenders"]
        if contender in contenders:
            return contenders[contender]["accuracy"]
    raise KeyError(f"No table of {names} has {contender!r} on {corpus!r}.")
