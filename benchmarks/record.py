"""The recorded results: for each plan a file in results/ with the numbers that documentation is made of.

    python -m benchmarks.record runs/comparison/results.json

keeps the tables of a results.json that `python -m benchmarks.run` wrote. Tables that it does not have stay.
"""

import argparse
import json
from pathlib import Path
from typing import Literal

from benchmarks.runner.plan_file import read_plan
from benchmarks.runner.results import COSTS, Cost
from benchmarks.runner.results_format import BenchmarkResults, TableResults
from episodes import InputError
from episodes.writing import write_text

FOLDER = Path(__file__).parent
PLANS, RESULTS = FOLDER / "plans", FOLDER / "results"

Detail = Literal[
    "per_episode", "per_episode_by_training", "macro_f1_per_episode", "confusion", "class_names", "reliability"
]
DETAILS: tuple[Detail, ...] = (
    "per_episode",
    "per_episode_by_training",
    "macro_f1_per_episode",
    "confusion",
    "class_names",
    "reliability",
)
"""What results.json has and recorded results leave out, because it is large."""


def recorded_tables(folder: Path = RESULTS) -> dict[str, TableResults]:
    """The recorded tables of all plans, by name."""
    tables: dict[str, TableResults] = {}
    for plan in sorted(PLANS.glob("*.yaml")):
        file = folder / f"{plan.stem}.json"
        tables |= json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return tables


def record(results: BenchmarkResults, folder: Path = RESULTS) -> list[Path]:
    """Add tables to the recorded results, each to the file of the plan that has it; returns the written files.

    Raises:
        InputError: no plan has a table of that name.
    """
    file_of = {
        name: folder / f"{plan.stem}.json" for plan in sorted(PLANS.glob("*.yaml")) for name in read_plan(plan).tables
    }
    unknown = sorted(set(results["tables"]) - set(file_of))
    if unknown:
        raise InputError(f"No plan in {str(PLANS)!r} has the tables {unknown}.")
    files = list(dict.fromkeys(file_of[name] for name in results["tables"]))
    for file in files:
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        kept |= {name: _shortened(table) for name, table in results["tables"].items() if file_of[name] == file}
        write_text(file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return files


def _shortened(table: TableResults) -> TableResults:
    """The table without what no recorded table or figure needs."""
    unused: tuple[Detail | Cost, ...] = DETAILS if "cost" in table["plots"] else (*DETAILS, *COSTS)
    for settings in table["corpora"].values():
        for setting in settings.values():
            for contender in setting["contenders"].values():
                for name in unused:
                    contender.pop(name, None)
    return table


def main() -> None:
    """Record the given files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results.json of a benchmark")
    options = parser.parse_args()
    for source in options.results:
        try:
            files = record(json.loads(source.read_text(encoding="utf-8")))
        except InputError as error:
            parser.error(str(error))
        print(f"{source}: recorded in {', '.join(map(str, files))}")


if __name__ == "__main__":
    main()
