"""The report of a benchmark: one Markdown file, and one HTML file that contains its figures."""

import base64
import html
import io
from collections.abc import Iterator

from benchmarks.report.figures import PLOTS
from benchmarks.report.tables import NOTE, Rows, all_rows, n_episodes
from benchmarks.runner.plan import PlotName
from benchmarks.runner.results_format import BenchmarkResults, TableResults
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


def markdown_report(results: BenchmarkResults) -> str:
    """The report in Markdown, without figures."""
    parts = [NOTE]
    for table in results["tables"].values():
        parts += [f"## {table['title']}", n_episodes(table), *(rows.markdown for rows in all_rows(table))]
    return "\n\n".join(parts) + "\n"


def html_report(results: BenchmarkResults, title: str) -> str:
    """The report as one HTML page that needs no other file."""
    tables = results["tables"]
    titles = {html.escape(name): html.escape(table["title"]) for name, table in tables.items()}
    contents = (f'<li><a href="#{name}">{title}</a></li>' for name, title in titles.items())
    body = [f"<h1>{html.escape(title)}</h1>", _note(NOTE), "<ul>", *contents, "</ul>"]
    if not plots_available():
        body.append(_note('There are no figures, because matplotlib is missing: pip install "metawarp[plots]".'))
    for name, table in tables.items():
        body += [f'<h2 id="{html.escape(name)}">{html.escape(table["title"])}</h2>', _note(n_episodes(table))]
        if plots_available():
            body += [f'<img alt="{plot}" src="{_figure_address(plot, table)}">' for plot in table["plots"]]
        for rows in all_rows(table):
            body += _html_table(rows)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body>" + "\n".join(body) + "</body></html>\n"
    )


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _html_table(rows: Rows) -> Iterator[str]:
    yield '<div class="wide"><table><thead><tr>'
    yield from (f"<th>{html.escape(cell)}</th>" for cell in rows.header)
    yield "</tr></thead>"
    for row in rows.rows:
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
    yield "</table></div>"


def _figure_address(plot: PlotName, table: TableResults) -> str:
    """A figure as a data: address."""
    image = io.BytesIO()
    PLOTS[plot](table).savefig(image, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
