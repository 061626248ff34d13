"""The results of a benchmark for people: a Markdown table of each, and one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import stdev
from typing import Any

from metawarp.benchmark.report_plots import PLOTS, contenders_of
from metawarp.evaluation.plots import plots_available

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; }
img { max-width: 100%; display: block; margin: 1rem 0; }
h2 { margin-top: 3rem; } .note { color: #666; }
"""
_NOTE = (
    "Accuracy in percent, mean ± 95 % interval over episodes, the same for every row; in parentheses the paired "
    "difference to the row of the column without one (the best baseline, unless the table says otherwise), with * "
    "where it is unlikely to be chance (p < 0.05, corrected for the number of comparisons by Holm's method). Of "
    "several trainings the mean ± standard deviation stands behind. "
    "† marks inits that were trained on classes of the same name as some of the tested ones."
)


def markdown_report(results: Mapping[str, Any]) -> str:
    """Every table in Markdown, one for each corpus."""
    parts = [_NOTE]
    for table in results["tables"].values():
        parts += [f"## {table['title']}", _episodes(table)]
        parts += [markdown(header, rows) for header, *rows in (*tables_of(table), *calibrations_of(table))]
    return "\n\n".join(parts) + "\n"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def html_report(results: Mapping[str, Any], name: str) -> str:
    """One page with tables and pictures, all of it inside.

    Args:
        results: what `benchmark` returns.
        name: the page's title.
    """
    body = [f"<h1>{html.escape(name)}</h1>", f'<p class="note">{html.escape(_NOTE)}</p>']
    body += [
        "<ul>",
        *(f'<li><a href="#{key}">{html.escape(t["title"])}</a></li>' for key, t in results["tables"].items()),
        "</ul>",
    ]
    if not plots_available():
        body.append(
            '<p class="note">Without pictures: matplotlib is not installed (pip install "metawarp[plots]").</p>'
        )
    for key, table in results["tables"].items():
        body.append(f'<h2 id="{key}">{html.escape(table["title"])}</h2><p class="note">{_episodes(table)}</p>')
        if plots_available():
            body += [f'<img alt="{plot}" src="{_inside(PLOTS[plot](table))}">' for plot in table["plots"]]
        for header, *rows in (*tables_of(table), *calibrations_of(table)):
            body.append('<div class="wide"><table>')
            body += ["<thead><tr>", *(f"<th>{html.escape(cell)}</th>" for cell in header), "</tr></thead>"]
            for row in rows:
                body += ["<tr>", *(f"<td>{html.escape(cell)}</td>" for cell in row), "</tr>"]
            body.append("</table></div>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f"<style>{_STYLE}</style><body>" + "\n".join(body) + "</body></html>\n"
    )


def tables_of(table: Mapping[str, Any]) -> Iterator[list[list[str]]]:
    """Accuracies on each corpus, and behind them what a task costs, where that is drawn too; the header first."""
    for corpus, settings in table["corpora"].items():
        yield list(_cells(corpus, settings))
        if "cost" in table["plots"]:
            yield _costs(corpus, settings)


def calibrations_of(table: Mapping[str, Any]) -> Iterator[list[list[str]]]:
    """Expected calibration errors of contenders that have probabilities, where reliability is drawn."""
    for corpus, settings in table["corpora"].items() if "reliability" in table["plots"] else ():
        rows = [[f"{corpus}, expected calibration error (%)", *settings]]
        for name in contenders_of(settings):
            held = [setting["contenders"].get(name, {}).get("calibration_error") for setting in settings.values()]
            if any(error is not None for error in held):
                rows.append([name, *("–" if error is None else f"{100 * error:.1f}" for error in held)])
        yield rows


def _episodes(table: Mapping[str, Any]) -> str:
    """How many episodes its settings have."""
    number = {at: setting["episodes"] for at, setting in table["settings"].items()}
    if len(set(number.values())) == 1:
        return f"{next(iter(number.values()))} episodes."
    return f"Episodes: {', '.join(f'{at} {count}' for at, count in number.items())}."


_COSTS = {
    "seconds_a_task": ("seconds, one core", "{:.3g}"),
    "peak_megabytes": ("megabytes above the backbone", "{:,.0f}"),
    "numbers_a_task": ("numbers kept", "{:,.0f}"),
    "numbers_learned": ("numbers of the init", "{:,.0f}"),
    "training_seconds_a_task": ("seconds of a training task", "{:.2f}"),
}
"""Columns of a table of costs, by what results.json calls them, and how their figures are written."""


def costs_of(table: Mapping[str, Any]) -> Iterator[list[list[str]]]:
    """What a task costs on each corpus, whatever is drawn; the header first."""
    yield from (_costs(*place) for place in table["corpora"].items())


def _costs(corpus: str, settings: Mapping[str, Any]) -> list[list[str]]:
    """What a new task costs each contender in the last setting, the header first."""
    at, setting = list(settings.items())[-1]
    known = [name for name in _COSTS if any(name in found for found in setting["contenders"].values())]
    rows = [[f"{corpus}, a new task of {at}", *(_COSTS[name][0] for name in known)]]
    for who, found in setting["contenders"].items():
        rows.append([who, *(_COSTS[name][1].format(found[name]) if name in found else "–" for name in known)])
    return rows


def _cells(corpus: str, settings: Mapping[str, Any]) -> Iterator[list[str]]:
    """The header, and a row for each contender."""
    yield [corpus, *settings]
    for name in contenders_of(settings):
        yield [name, *(_cell(setting, name) for setting in settings.values())]


def _cell(setting: Mapping[str, Any], name: str) -> str:
    found, paired = setting["contenders"].get(name), setting["paired"].get(name)
    if found is None:
        return "–"
    cell = f"{100 * found['accuracy']:.1f} ± {100 * found['ci95']:.1f}"
    if paired:
        star = "*" if paired["p_holm"] < 0.05 else ""
        cell += f" ({100 * paired['difference']:+.1f} ± {100 * paired['ci95']:.1f}{star})"
    if len(found["by_training"]) > 1:
        cell += f" ± {100 * stdev(found['by_training']):.1f} over {len(found['by_training'])}"
    return f"{cell} †" if found["classes_seen_in_training"] else cell


def _inside(figure: Any) -> str:
    """A figure as a data: address."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
