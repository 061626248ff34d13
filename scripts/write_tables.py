"""Write the tables of benchmarks/*.json into README.md and docs/, each between two marks of its own, and draw pictures.

python scripts/write_tables.py
python scripts/write_tables.py --take runs/field/results.json     # first keep what `metawarp benchmark` measured
python scripts/write_tables.py --take runs/forms/results.json     # its tables are kept in benchmarks/forms.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine_cases import HALF, LATE, PEER

from metawarp.backbones.architectures import described
from metawarp.benchmark.plan_file import read_plan
from metawarp.benchmark.report import calibrations_of, costs_of, markdown, tables_of
from metawarp.benchmark.report_plots import PLOTS
from metawarp.evaluation.cost import COSTS
from metawarp.outputs import write_text

FIELD, ENGINES = Path("benchmarks/field.json"), Path("benchmarks/engines.json")
FORMS, SIMILAR = Path("benchmarks/forms.json"), Path("benchmarks/similar.json")
RESULTS = ("README.md", "docs/results.md", "docs/forms.md")
KINDS = {"": tables_of, "calibration": calibrations_of, "costs": costs_of}
"""What is written of a table, by what stands in its mark behind its name and a comma."""
MARK = "<!-- {}: written by scripts/write_tables.py -->"
PICTURE = r"\((?:docs/)?([a-z]+)-([a-z]+)\.png\)"
"""Table and plot of a picture; it lies in docs/."""

LARGE = ("per_episode", "per_episode_by_training", "macro_f1_per_episode", "confusion", "class_names", "reliability")
"""What results.json has beside the figures of a table."""


def main() -> None:
    """Keep new results, if there are any; write every table whose results are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, nargs="+", default=[], help="results.json of `metawarp benchmark`")
    for taken in parser.parse_args().take:
        take(taken)
    engines, field, forms = (json.loads(file.read_text(encoding="utf-8")) for file in (ENGINES, FIELD, FORMS))
    tables = field | forms
    for file in RESULTS:
        text = Path(file).read_text(encoding="utf-8")
        for mark in set(re.findall(MARK.format("([a-z-]+(?:, [a-z]+)?)"), text)):
            table, _, kind = mark.partition(", ")
            if table in tables:
                put(file, mark, joined(KINDS[kind](tables[table])))
        for table, plot in (found for found in re.findall(PICTURE, text) if found[0] in tables):
            PLOTS[plot](tables[table]).savefig(f"docs/{table}-{plot}.png", dpi=90)
    put("docs/backbones.md", "backbones", backbone_table())
    put("docs/forms.md", "similar", similar_table(json.loads(SIMILAR.read_text(encoding="utf-8"))))
    put("docs/engine.md", "engines", engine_table(engines))
    put("docs/engine.md", "figures", figures_table(engines))
    put("docs/engine.md", "lines", lines_table(engines))


def put(file: str, name: str, table: str) -> None:
    """Replace what stands between the two marks of a table."""
    mark = MARK.format(name)
    before, _, rest = Path(file).read_text(encoding="utf-8").partition(mark)
    _, _, after = rest.partition(mark)
    write_text(Path(file), "\n".join([before + mark, "", table, "", mark + after]))


def take(results: Path) -> None:
    """Keep the figures of a benchmark's results, and of tables measured before that these do not have."""
    of_forms = read_plan(FORMS.with_suffix(".yaml")).tables
    for name, table in json.loads(results.read_text(encoding="utf-8"))["tables"].items():
        file = FORMS if name in of_forms else FIELD
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        unused = LARGE if "cost" in table["plots"] else (*LARGE, *COSTS)
        for settings in table["corpora"].values():
            for setting in settings.values():
                for found in setting["contenders"].values():
                    for name_of in unused:
                        found.pop(name_of, None)
        kept[name] = table
        write_text(file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def similar_table(found: dict[str, Any]) -> str:
    """Corpus and shots × how often its own init comes first, and what is right when starting from whom."""
    rows, header = [], []
    for corpus, settings in found["corpora"].items():
        for shots, measured in settings.items():
            header = [f"own init first, {way}" for way in measured["own init first"]] + list(measured["accuracy"])
            shares = [f"{share:.0%}" for share in measured["own init first"].values()]
            right = [f"{100 * mean:.1f} ± {100 * width:.1f}" for mean, width in measured["accuracy"].values()]
            rows.append([f"{corpus}, {shots}", *shares, *right])
    return markdown(["tasks of", *header], rows)


def joined(tables: Iterable[list[list[str]]]) -> str:
    """Tables below one another, a part for each corpus."""
    return "\n\n".join(markdown(header, rows) for header, *rows in tables)


def backbone_table() -> str:
    """Model type, how it is read, examples, what is known."""
    found = described()
    header = ["model type", *next(iter(found.values()))]
    return markdown(header, [[f"`{model_type}`", *facts.values()] for model_type, facts in found.items()])


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


if __name__ == "__main__":
    main()
