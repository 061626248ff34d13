"""What the engine timing measures, as results/engines.json holds it, and tables of it."""

import re
from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

from benchmarks.engine_timing.cases import BARE_PASSES, CASES, HALF, LATE, WHOLE_MODEL
from benchmarks.report.tables import MISSING, Rows

Quantity = Literal["seconds_per_task", "peak_megabytes"]


class CaseCost(TypedDict):
    """Cost of one case; None if it does not fit into memory."""

    seconds_per_task: float | None
    peak_megabytes: float | None


class Line(TypedDict):
    """A quantity at several numbers of inner steps, and the line through it.

    Attributes:
        values: the measured values.
        intercept: value of the line at 0 inner steps.
        slope: slope of the line per inner step.
        largest_error: largest distance of a value from the line, relative to the largest value.
    """

    values: list[float]
    intercept: float
    slope: float
    largest_error: float


class Lines(TypedDict):
    """The lines of several cases through the same numbers of inner steps."""

    inner_steps: list[int]
    cases: dict[str, dict[Quantity, Line]]


class EngineResults(TypedDict):
    """What results/engines.json holds: costs by setting "S = …, T = …" (inner steps, tasks) and case, and lines."""

    threads: int
    device: str
    settings: NotRequired[dict[str, dict[str, CaseCost]]]
    lines: NotRequired[Lines]


def setting_name(inner_steps: int, n_tasks: int) -> str:
    """Name of a setting in results/engines.json."""
    return f"S = {inner_steps}, T = {n_tasks}"


def ratio(costs: Mapping[str, CaseCost], case: str, other: str, quantity: Quantity) -> float | None:
    """Cost of a case relative to another one; None if one of them is missing."""
    values = [costs[name][quantity] if name in costs else None for name in (case, other)]
    return values[0] / values[1] if values[0] and values[1] else None


def ratio_rows(costs: Mapping[str, CaseCost]) -> Rows:
    """Costs of one setting, relative to learn2learn over the whole model and to bare passes."""
    header = ["case", "s / task", "MB", "time / learn2learn", "memory / learn2learn", "speed / bare passes"]
    rows = []
    for case, cost in costs.items():
        seconds, megabytes = cost["seconds_per_task"], cost["peak_megabytes"]
        ratios = (
            ratio(costs, case, WHOLE_MODEL, "seconds_per_task"),
            ratio(costs, case, WHOLE_MODEL, "peak_megabytes"),
            ratio(costs, BARE_PASSES, case, "seconds_per_task"),
        )
        cells = [_written(seconds, ".2f"), _written(megabytes, ",.0f"), *(_written(value, ".2f") for value in ratios)]
        rows.append([case, *cells])
    return Rows(header, rows)


def cost_rows(results: EngineResults) -> Rows:
    """Seconds per task / megabytes of each case in every setting."""
    settings = dict(sorted(results.get("settings", {}).items(), key=lambda item: _numbers(item[0])))
    rows = []
    for case in CASES:
        cells = []
        for costs in settings.values():
            cost = costs.get(case, CaseCost(seconds_per_task=None, peak_megabytes=None))
            seconds, megabytes = cost["seconds_per_task"], cost["peak_megabytes"]
            cells.append(f"{seconds:.2f} / {megabytes:,.0f}" if seconds and megabytes else MISSING)
        rows.append([case, *cells])
    return Rows(["s per task / MB", *settings], rows)


def summary_rows(results: EngineResults) -> Rows:
    """The ratios that the engine is judged by, for one task."""
    settings = results.get("settings", {})
    one, five, fifteen = (settings[setting_name(steps, 1)] for steps in (1, 5, 15))
    memory = {steps: costs["recompute"]["peak_megabytes"] or 0.0 for steps, costs in ((1, one), (15, fifteen))}
    line = results["lines"]["cases"]["recompute"]["peak_megabytes"]["values"] if "lines" in results else [1.0]
    seconds: Quantity = "seconds_per_task"
    ratios = {
        "time of second-order MAML (`unroll`, S = 5) / of learn2learn over the whole model": ratio(
            five, "unroll", WHOLE_MODEL, seconds
        ),
        "the same with the prompt at half depth and a warm cache": ratio(five, LATE, WHOLE_MODEL, seconds),
        "memory of `recompute` (S = 15) / of learn2learn over the whole model": ratio(
            fifteen, "recompute", WHOLE_MODEL, "peak_megabytes"
        ),
        "memory of `recompute` at S = 50 / at S = 1 (1-shot)": line[-1] / line[0],
        "memory of `recompute` at S = 15 / at S = 1 (5-shot)": memory[15] / memory[1],
        "time of `recompute` / of `unroll` (S = 5)": ratio(five, "recompute", "unroll", seconds),
        "speed of `fomaml` / of bare passes (S = 5)": ratio(five, BARE_PASSES, "fomaml", seconds),
        "time of `unroll` in bfloat16 / in float32 (S = 5)": ratio(five, HALF, "unroll", seconds),
    }
    return Rows(["one task, two CPU cores", "ratio"], [[what, _written(r, ".2f")] for what, r in ratios.items()])


def line_rows(results: EngineResults) -> Rows:
    """Seconds and megabytes of each case as a line in the number S of inner steps, with its largest error."""
    rows = []
    lines = results["lines"]["cases"] if "lines" in results else {}
    for case in (case for case in CASES if case in lines):
        cells = [f"`{case}`"]
        quantities: tuple[tuple[Quantity, str], ...] = (("seconds_per_task", ".3f"), ("peak_megabytes", ".1f"))
        for quantity, digits in quantities:
            line = lines[case][quantity]
            sign = "−" if line["slope"] < 0 else "+"
            cells.append(f"{line['intercept']:.2f} {sign} {abs(line['slope']):{digits}} · S")
            cells.append(f"{line['largest_error']:.0%}")
        rows.append(cells)
    return Rows(["method", "seconds", "error", "MB", "error"], rows)


def _written(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", name)]
