"""Measure the tables of a plan, and write results.json and the report.

    python -m benchmarks.run --plan PLAN --data FOLDER --output FOLDER --workers 2

What the output folder holds already is not measured again, whichever plan it was measured for, so a stopped run
continues where it was. The data folder holds one folder per corpus, with data.jsonl and splits.json.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from benchmarks.report.pages import html_report, markdown_report
from benchmarks.runner.cell import Cell, cells_of
from benchmarks.runner.corpora import load_corpus
from benchmarks.runner.keys import cell_key, reader_key, training_key
from benchmarks.runner.measurement import measure
from benchmarks.runner.plan import Table
from benchmarks.runner.plan_file import read_plan
from benchmarks.runner.results import cell_file, collect_results
from benchmarks.runner.results_format import BenchmarkResults
from benchmarks.runner.training import is_trained, train_for
from benchmarks.runner.workers import WorkerDiedError, run_jobs
from episodes.errors import InputError, listing
from episodes.writing import write_text
from metawarp import outputs

logger = logging.getLogger(__name__)

KIND = "benchmark"
RESULTS, REPORT = "results.json", "report"


def run_plan(
    plan: str | Path, output: str | Path, *, data: str | Path = ".", tables: Sequence[str] = (), workers: int = 1
) -> BenchmarkResults:
    """Measure what is missing of a plan.

    Args:
        plan: YAML file (see `read_plan`).
        output: folder for trainings, cells, results.json, report.md and report.html.
        data: folder with one folder per corpus, which holds data.jsonl and splits.json.
        tables: names of the tables to measure; none: all.
        workers: number of processes with one thread each; 1: this process, with all of its threads.

    Returns:
        What results.json holds: "protocol", and "tables" with accuracies, intervals and paired differences.

    Raises:
        InputError: the plan or a corpus cannot be used, or the folder holds results of something else.
        WorkerDiedError: a worker process was killed.
    """
    if workers < 1:
        raise InputError(f"workers={workers} must be at least 1.")
    parsed, data, folder = read_plan(plan), Path(data), Path(output)
    if unknown := [name for name in tables if name not in parsed.tables]:
        raise InputError(f"tables={listing(unknown)} must be names of tables of the plan: {listing(parsed.tables)}.")
    names = [name for name in parsed.tables if not tables or name in tables]
    selected = [parsed.tables[name] for name in names]
    _require_feasible(selected, data)
    cells = {cell_key(cell, data): cell for table in selected for cell in cells_of(table)}
    outputs.claim_folder(folder, [RESULTS, f"{REPORT}.md", f"{REPORT}.html"], kind=KIND, overwrite=True)
    outputs.mark_folder(folder, KIND)
    _train(cells.values(), data, folder / "trainings", workers)
    _measure(cells, data, folder, workers)
    results = collect_results(parsed, names, data, folder)
    write_text(folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / f"{REPORT}.md", markdown_report(results))
    write_text(folder / f"{REPORT}.html", html_report(results, f"metawarp: {Path(plan).stem}"))
    return results


def _require_feasible(tables: Sequence[Table], data: Path) -> None:
    """Refuse settings for which no episode can be drawn, before anything is trained."""
    for table in tables:
        for corpus, setting in product(table.corpora, table.settings.values()):
            setting.sampler(load_corpus(corpus, data)[1].test)


def _train(cells: Iterable[Cell], data: Path, trainings: Path, workers: int) -> None:
    missing = {training_key(cell, data): cell for cell in cells if cell.contender.needs_training}
    missing = {key: cell for key, cell in missing.items() if not is_trained(trainings / key)}
    logger.info("%d trainings are missing", len(missing))
    run_jobs(train_for, [(cell, data, trainings) for cell in missing.values()], workers, "trainings")


def _measure(cells: Mapping[str, Cell], data: Path, folder: Path, workers: int) -> None:
    missing = {cell_file(folder, key): cell for key, cell in cells.items() if not cell_file(folder, key).exists()}
    logger.info("%d cells are missing", len(missing))
    groups: dict[str, dict[Path, Cell]] = {}
    for file, cell in missing.items():
        groups.setdefault(reader_key(cell, data), {})[file] = cell
        file.parent.mkdir(exist_ok=True)
    jobs = [(group, data, folder / "trainings") for group in groups.values()]
    run_jobs(measure, jobs, workers, "groups of cells")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` are those without the name of the program, None those of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, help="YAML file, such as benchmarks/plans/comparison.yaml")
    parser.add_argument("--output", required=True, help="folder for trainings, cells, results and report")
    parser.add_argument("--data", default=".", help="folder with one folder per corpus")
    parser.add_argument("--tables", nargs="+", default=[], help="names of the tables to measure (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes; 1 uses all threads of this one")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for package in ("benchmarks", "episodes", "metawarp"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        run_plan(**vars(options))
    except InputError as error:
        parser.error(str(error))
    except (ImportError, WorkerDiedError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print((Path(options.output) / f"{REPORT}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
