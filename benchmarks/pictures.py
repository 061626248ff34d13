"""Draw the figures that README.md and docs/ show.

    python -m benchmarks.pictures

A page shows the figure PLOT of the recorded table TABLE as an image of the name TABLE-PLOT.png, such as
`![Accuracy …](images/main-dots.png)`. The image is drawn where the link points to. A figure of a study that has no
table of a plan has its own name.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import recorded_tables
from benchmarks.report import fit_results, label_curves
from benchmarks.report.figures import PLOTS
from benchmarks.tables import pages

IMAGE = re.compile(r"!\[[^\]]*\]\((?P<path>[^)\s]+\.png)\)")
DPI = 120

STUDIES: dict[str, Callable[[], Any]] = {
    "fits-seconds": lambda: fit_results.over_seconds(fit_results.recorded()),
    "label-curves": lambda: label_curves.over_labels(label_curves.recorded()),
}
"""The figures of studies, by the name of the image."""


def shown_figures(files: Iterable[Path]) -> Iterator[tuple[Path, str, str]]:
    """File, table and plot of each image that is a figure of a recorded table."""
    tables = recorded_tables()
    for page in files:
        for match in IMAGE.finditer(page.read_text(encoding="utf-8")):
            image = page.parent / match["path"]
            table, _, plot = image.stem.rpartition("-")
            if (table in tables and plot in PLOTS) or image.stem in STUDIES:
                yield image, table, plot


def draw(files: Iterable[Path]) -> list[Path]:
    """Draw all figures that some pages show; returns the images."""
    tables, plots = recorded_tables(), {str(name): function for name, function in PLOTS.items()}
    images = dict((image, (table, plot)) for image, table, plot in shown_figures(files))
    for image, (table, plot) in images.items():
        image.parent.mkdir(parents=True, exist_ok=True)
        figure = STUDIES[image.stem]() if image.stem in STUDIES else plots[plot](tables[table])
        figure.savefig(image, dpi=DPI)
    return list(images)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` are those without the name of the program, None those of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="pages (default: README.md and docs/**/*.md)")
    for image in draw(parser.parse_args(arguments).files or pages()):
        print(image)


if __name__ == "__main__":
    main()
