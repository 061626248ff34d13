"""The learning curve of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from metawarp.evaluation.plots import DPI, figure_of
from metawarp.training.run_folder import read_log

CURVE = "learning_curve.png"


def draw_learning_curve(folder: str | Path) -> Path:
    """Draw a run's log as a picture in its folder: query loss, and validation accuracy.

    Raises:
        ImportError: matplotlib is not installed; the message has the command that installs it.
    """
    figure = figure_of(7, 4)
    folder = Path(folder)
    entries = read_log(folder)
    validated = [entry for entry in entries if "validation_accuracy" in entry]
    left = figure.subplots()
    left.plot([e["step"] for e in entries], [e["loss"] for e in entries], color="0.7", label="query loss")
    left.set(xlabel="outer step", ylabel="query loss (training classes)", title=f"Meta-training, {folder}")
    right = left.twinx()
    right.plot(
        [e["step"] for e in validated],
        [100 * e["validation_accuracy"] for e in validated],
        color="tab:blue",
        marker="o",
    )
    right.set_ylabel("accuracy on validation classes (%)", color="tab:blue")
    figure.savefig(folder / CURVE, dpi=DPI)
    return folder / CURVE
