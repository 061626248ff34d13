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
from statistics import median
from typing import Any

from engine_cases import HALF, LATE, PEER
from safetensors.torch import load_file

from metawarp.backbones.architectures import described
from metawarp.benchmark.report import calibrations_of, markdown, tables_of
from metawarp.benchmark.report_plots import PLOTS
from metawarp.evaluation.cost import COSTS
from metawarp.outputs import write_text

FIELD, ENGINES = Path("benchmarks/field.json"), Path("benchmarks/engines.json")
FORMS = Path("benchmarks/forms.json")
SIMILAR = Path("benchmarks/similar.json")
ELSEWHERE = {"forms": FORMS, "windows": FORMS}
"""Where tables are kept that are not in FIELD."""
RESULTS = ("README.md", "docs/results.md")
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
    engines, field = (json.loads(file.read_text(encoding="utf-8")) for file in (ENGINES, FIELD))
    for file in RESULTS:
        text = Path(file).read_text(encoding="utf-8")
        for mark in set(re.findall(MARK.format("([a-z-]+(?:, calibration)?)"), text)):
            table, _, kind = mark.partition(", ")
            if table in field:
                put(file, mark, joined((calibrations_of if kind else tables_of)(field[table])))
        for table, plot in (found for found in re.findall(PICTURE, text) if found[0] in field):
            PLOTS[plot](field[table]).savefig(f"docs/{table}-{plot}.png", dpi=90)
    put("docs/backbones.md", "backbones", backbone_table())
    forms = json.loads(FORMS.read_text(encoding="utf-8"))
    put("docs/forms.md", "forms", forms_table(forms["forms"]))
    put("docs/forms.md", "windows", joined(tables_of(forms["windows"])))
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
    trained, tables = trainings_beside(results), json.loads(results.read_text(encoding="utf-8"))["tables"]
    for name, table in tables.items():
        file = ELSEWHERE.get(name, FIELD)
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        unused = LARGE if "cost" in table["plots"] else (*LARGE, *COSTS)
        for settings in table["corpora"].values():
            for setting in settings.values():
                for found in setting["contenders"].values():
                    found |= trained.get(found["init_sha256"][0], {}) if file is FORMS else {}
                    for name_of in unused:
                        found.pop(name_of, None)
        kept[name] = table
        write_text(file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def trainings_beside(results: Path) -> dict[str, dict[str, float]]:
    """By the sha256 of an init: how many numbers it has, and how long a task of its training took."""
    found = {}
    for config in results.parent.glob("trainings/*/config.json"):
        if not (config.parent / "init.safetensors").exists():
            continue
        log = [json.loads(line) for line in (config.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        numbers = sum(tensor.numel() for tensor in load_file(config.parent / "init.safetensors").values())
        found[json.loads(config.read_text(encoding="utf-8"))["sha256"]] = {
            "numbers": numbers,
            "training_seconds_a_task": 1 / median(entry["tasks_per_second"] for entry in log),
        }
    return found


def forms_table(found: dict[str, Any]) -> str:
    """Form × accuracy of each corpus and setting, and costs on the first corpus at the last setting."""
    places = [(corpus, setting) for corpus, settings in found["corpora"].items() for setting in settings]
    header = ["form", "numbers learned", *(f"{corpus}, {setting}" for corpus, setting in places)]
    header += ["numbers kept a task", "s to adapt", "s a task of training"]
    rows = []
    first = next(iter(found["corpora"].values()))
    for form, costs in list(first.values())[-1]["contenders"].items():
        cells = [form, f"{costs['numbers']:,}" if "numbers" in costs else "–"]
        for corpus, setting in places:
            measured = found["corpora"][corpus][setting]["contenders"][form]
            cells.append(f"{100 * measured['accuracy']:.1f} ± {100 * measured['ci95']:.1f}")
        cells += [f"{costs['numbers_a_task']:,.0f}", f"{costs['seconds_a_task']:.2f}"]
        cells.append(f"{costs['training_seconds_a_task']:.2f}" if "training_seconds_a_task" in costs else "–")
        rows.append(cells)
    return markdown(header, rows)


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
