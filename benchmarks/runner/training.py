"""The trainings of a benchmark."""

from pathlib import Path

from benchmarks.runner.cell import Cell
from benchmarks.runner.corpora import load_corpus, reduced_corpus
from benchmarks.runner.keys import training_key
from metawarp.inits.file import INIT_FILES
from metawarp.output_folder import UNFINISHED
from metawarp.training.run_folder import CHECKPOINT
from metawarp.training.train import train


def is_trained(folder: Path) -> bool:
    """Whether a training has left its init in a folder."""
    return (folder / INIT_FILES[0]).exists()


def train_for(cell: Cell, data: Path, trainings: Path) -> Path:
    """Train the init of a cell, or continue its training; an existing init stays.

    Args:
        cell: a cell whose contender needs a training.
        data: folder of the corpora.
        trainings: folder of all trainings, each in a folder named by its key.

    Returns:
        The folder of the init.
    """
    folder = trainings / training_key(cell, data)
    if is_trained(folder):
        return folder
    reduced = [reduced_corpus(*load_corpus(name, data), cell.contender) for name in cell.train_on]
    resume = (folder / UNFINISHED / CHECKPOINT).exists()
    train(
        [corpus for corpus, _ in reduced],
        str(folder),
        splits=[names for _, names in reduced],
        seed=cell.seed,
        resume=resume,
        overwrite=not resume,  # a run that was killed before its first checkpoint
        **vars(cell.contender.training),
    )
    return folder
