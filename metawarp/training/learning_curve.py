"""The learning curve of a run as a figure."""

from pathlib import Path

from episodes.paths import user_path
from metawarp.evaluation.plots import GRAY, HIGHLIGHT, new_figure, plain_axes, save_figure
from metawarp.inits.init import Init
from metawarp.training.run_folder import read_log

CURVE = "learning_curve.png"


def draw_learning_curve(folder: str | Path) -> Path:
    """Draw the log of a run into its folder: validation accuracy above, from that of the start on; query loss below.

    The folder holds the init that the run ended with.

    Without matplotlib, the ImportError has the command that installs it.
    """
    folder, figure = user_path(folder), new_figure(7, 5)
    entries = read_log(folder)
    validated = {0: Init.load(folder).training["validation_accuracy_of_start"]}
    validated |= {entry["step"]: entry["validation_accuracy"] for entry in entries if "validation_accuracy" in entry}
    steps, accuracy = list(validated), [100 * value for value in validated.values()]
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(steps, accuracy, color=HIGHLIGHT, marker="o", clip_on=False)
    best = accuracy.index(max(accuracy))
    text, side = f"best: {accuracy[best]:.1f} % at step {steps[best]}", "right" if best else "left"
    style = {"textcoords": "offset points", "va": "bottom", "color": HIGHLIGHT}
    above.annotate(text, (steps[best], accuracy[best]), (0, 7), ha=side, **style)
    above.margins(y=0.2)
    above.set_title("Accuracy on validation classes (%)", loc="left", fontsize=10)
    below.plot([e["step"] for e in entries], [e["loss"] for e in entries], color=GRAY, linewidth=1)
    below.set_title("Query loss on training classes", loc="left", fontsize=10)
    below.set_xlabel("outer step")
    below.xaxis.get_major_locator().set_params(integer=True)
    for axes in (above, below):
        plain_axes(axes)
    return save_figure(figure, folder / CURVE)
