"""Write the recorded results as tables into README.md and docs/, between two markers.

    python -m benchmarks.tables            # rewrites every table
    python -m benchmarks.tables --check    # fails if a table is out of date
    python -m benchmarks.tables --list     # prints the names of all tables

A page holds `<!-- table: NAME -->` and `<!-- end -->`, each on a line of its own. A table of a plan has its name in the
plan, optionally followed by one of its corpora, and by "accuracy" (without differences), "calibration" or "cost":
`main`, `general huffpost`, `general huffpost accuracy`, `main calibration`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from benchmarks.backbones import backbone_study_rows
from benchmarks.dtype import dtype_rows
from benchmarks.engine_timing import results as engine_results
from benchmarks.latency import latency_rows
from benchmarks.ranking import ranking_rows
from benchmarks.record import RESULTS, recorded_tables
from benchmarks.report import label_curves
from benchmarks.report.fit_results import MPNET, fits_rows, recorded
from benchmarks.report.overview import overview_rows
from benchmarks.report.tables import NOTE, Rows, accuracy_rows, calibration_rows, cost_rows
from benchmarks.runner.results_format import CorpusResults, TableResults
from benchmarks.speed import fit_rows, prediction_rows
from episodes import InputError
from episodes.writing import write_text
from metawarp.backbones.architectures import describe_architectures

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"(?P<start><!-- table: (?P<name>[^\n]+?) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)

Kind = Callable[[str, CorpusResults], Rows]

KINDS: dict[str, Kind] = {
    "": accuracy_rows,
    "accuracy": lambda corpus, settings: accuracy_rows(corpus, settings, differences=False),
    "calibration": calibration_rows,
    "cost": cost_rows,
}
"""What is written of a table of a plan, by the last word of the name."""


def all_tables() -> dict[str, str]:
    """Every table in Markdown, by name."""
    recorded = recorded_tables()
    rows = {"overview": overview_rows(recorded), "backbones": _backbone_rows(), **_study_rows()}
    tables = {"note": NOTE, **{name: table.markdown for name, table in rows.items()}}
    for name, table in recorded.items():
        tables |= dict(_tables_of_plan(name, table))
    return tables


def _tables_of_plan(name: str, table: TableResults) -> Iterator[tuple[str, str]]:
    corpora = table["corpora"]
    selections = {"": list(corpora)} | ({corpus: [corpus] for corpus in corpora} if len(corpora) > 1 else {})
    kinds = [kind for kind in KINDS if _has(table, kind)]
    for (selection, selected), kind in product(selections.items(), kinds):
        parts = [KINDS[kind](corpus, corpora[corpus]).markdown for corpus in selected]
        yield " ".join(filter(None, (name, selection, kind))), "\n\n".join(parts)


def _has(table: TableResults, kind: str) -> bool:
    figure = {"calibration": "reliability", "cost": "cost"}.get(kind)
    return figure is None or figure in table["plots"]


def _study_rows() -> dict[str, Rows]:
    engines = json.loads((RESULTS / "engines.json").read_text(encoding="utf-8"))
    speed = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    return {
        "engines": engine_results.cost_rows(engines),
        "engine-summary": engine_results.summary_rows(engines),
        "engine-lines": engine_results.line_rows(engines),
        "dtype": dtype_rows(json.loads((RESULTS / "dtype.json").read_text(encoding="utf-8"))),
        "latency": latency_rows(json.loads((RESULTS / "latency.json").read_text(encoding="utf-8"))),
        "fits": fits_rows(recorded()),
        "fits-mpnet": fits_rows(recorded(MPNET)),
        "label-curves": label_curves.label_rows(label_curves.recorded()),
        "ranking": ranking_rows(json.loads((RESULTS / "ranking.json").read_text(encoding="utf-8"))),
        "speed": prediction_rows(speed["prediction"]),
        "speed-of-fit": fit_rows(speed["fit"]),
        "backbone-study": backbone_study_rows(json.loads((RESULTS / "backbones.json").read_text(encoding="utf-8"))),
    }


def _backbone_rows() -> Rows:
    architectures = describe_architectures()
    header = ["model type", *next(iter(architectures.values()))]
    return Rows(header, [[f"`{name}`", *facts.values()] for name, facts in architectures.items()])


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def with_tables(text: str, tables: dict[str, str]) -> str:
    """The text of a page with its tables rewritten.

    Raises:
        InputError: a marker names an unknown table, or has no end.
    """

    def rewritten(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in tables:
            raise InputError(f"The table {name!r} is unknown; see --list.")
        if "<!-- table:" in match["table"]:
            raise InputError(f"The table {name!r} has no <!-- end --> before the next table.")
        return f"{match['start']}\n{tables[name]}\n\n{match['end']}"

    if text.count("<!-- table:") > text.count("<!-- end -->"):
        raise InputError("A table has no <!-- end -->.")
    return MARKER.sub(rewritten, text)


def outdated(files: Iterable[Path]) -> dict[Path, str]:
    """The new texts of those pages whose tables are out of date."""
    tables, texts = all_tables(), {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        try:
            new = with_tables(text, tables)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        if new != text:
            texts[file] = new
    return texts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` are those without the name of the program, None those of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="pages (default: README.md and docs/**/*.md)")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a table is out of date")
    parser.add_argument("--list", action="store_true", help="print the names of all tables")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(all_tables()))
        return
    try:
        texts = outdated(options.files or pages())
    except InputError as error:
        parser.error(str(error))
    if options.check and texts:
        sys.exit(f"Tables are out of date, run `python -m benchmarks.tables`: {', '.join(map(str, texts))}")
    for file, text in texts.items():
        write_text(file, text)


if __name__ == "__main__":
    main()
