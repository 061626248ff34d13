"""Write the tables of benchmarks/*.json into README.md and docs/, each between its own two marks.

python scripts/write_tables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from engine_cases import HALF, LATE, PEER

from metawarp.storage import write_text

BENCHMARKS = Path("benchmarks")
RIVAL = "prototypes+names"
"""The baseline that differences are printed against."""


def main() -> None:
    """Write every table whose results are there."""
    engines = BENCHMARKS / "engines.json"
    accuracy = [BENCHMARKS / f"{name}.json" for name in ("huffpost", "hwu64", "everyday")]
    put("README.md", "accuracy", accuracy, lambda *found: "\n\n".join(map(accuracy_table, found)))
    put("docs/engine.md", "engines", [engines], engine_table)
    put("docs/engine.md", "figures", [engines], figures_table)
    put("docs/engine.md", "lines", [engines], lines_table)


def put(file: str, name: str, sources: list[Path], table: Callable[..., str]) -> None:
    """Replace what stands between the two marks of a table."""
    mark = f"<!-- {name}: written by scripts/write_tables.py -->"
    before, _, rest = Path(file).read_text(encoding="utf-8").partition(mark)
    _, _, after = rest.partition(mark)
    found = [json.loads(source.read_text(encoding="utf-8")) for source in sources if source.exists()]
    write_text(Path(file), "\n".join([before + mark, "", table(*found), "", mark + after]))


def accuracy_table(found: dict[str, Any]) -> str:
    """Method × setting, percent ± 95 % interval; for each init also its paired difference to the rival."""
    settings = found["settings"]
    names = dict.fromkeys(name for setting in settings.values() for name in setting["methods"])
    methods = sorted(names, key=lambda name: not name.startswith("metawarp"))  # ours, then the baselines
    rows = []
    for method in methods:
        cells = [method]
        for setting in settings.values():
            scores, paired = setting["methods"].get(method), setting["paired"].get(method, {}).get(RIVAL)
            cell = f"{scores['accuracy']:.1%} ± {scores['ci95'] * 100:.1f}".replace("%", "") if scores else "–"
            if paired:
                cell += f" ({paired['difference'] * 100:+.1f} ± {paired['ci95'] * 100:.1f})"
            cells.append(cell)
        rows.append(cells)
    return markdown([found["name"], *settings], rows)


def engine_table(found: dict[str, Any]) -> str:
    """Case × setting: seconds a task / megabytes."""
    settings = dict(sorted(found["settings"].items(), key=lambda item: [int(n) for n in re.findall("[0-9]+", item[0])]))
    rows = []
    for case in next(iter(settings.values())):
        cells = [
            f"{figures[case]['seconds_a_task']:.2f} / {figures[case]['peak_megabytes']:,.0f}"
            if figures.get(case, {}).get("peak_megabytes")
            else "–"
            for figures in settings.values()
        ]
        rows.append([case, *cells])
    return markdown(["s a task / MB", *settings], rows)


def figures_table(found: dict[str, Any]) -> str:
    """The ratios that the engine is judged by, of one task."""
    one, five, fifteen = (found["settings"][f"S = {steps}, T = 1"] for steps in (1, 5, 15))
    recompute = found["lines"]["recompute"]["peak_megabytes"]

    def time(case: str, other: str) -> float:
        return five[case]["seconds_a_task"] / five[other]["seconds_a_task"]

    rows = [
        ("second-order MAML, S = 5: time, of learn2learn over the whole model", time("unroll", PEER)),
        ("the same with prompts at half depth, warm cache", time(LATE, PEER)),
        ("`recompute`, S = 15: memory, of learn2learn over the whole model", fifteen["recompute"]["memory_to_peer"]),
        ("`recompute`: memory at S = 50, of that at S = 1 (1-shot)", recompute[-1] / recompute[0]),
        (
            "`recompute`: memory at S = 15, of that at S = 1 (5-shot)",
            fifteen["recompute"]["peak_megabytes"] / one["recompute"]["peak_megabytes"],
        ),
        ("`recompute`, S = 5: time, of `unroll`", time("recompute", "unroll")),
        ("`fomaml`, S = 5: speed, of the floor", five["fomaml"]["speed_to_floor"]),
        ("`unroll` in bfloat16, S = 5: time, of fp32", time(HALF, "unroll")),
    ]
    return markdown(["one task, two CPU cores", "ratio"], [[what, f"{ratio:.2f}"] for what, ratio in rows])


def lines_table(found: dict[str, Any]) -> str:
    """Seconds and megabytes of each method as a line in S, and how far the figures are from it."""
    rows = []
    for method, figures in found["lines"].items():
        if method == "steps":
            continue
        cells = [f"`{method}`"]
        for of, digits in (("seconds_a_task", 3), ("peak_megabytes", 1)):
            start, slope, off = figures[f"{of}: start, slope, largest distance"]
            cells += [f"{start:.2f} + {slope:.{digits}f} · S", f"{off:.0%}"]
        rows.append(cells)
    return markdown(["method", "seconds", "within", "MB", "within"], rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


if __name__ == "__main__":
    main()
