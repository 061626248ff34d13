"""The output folder of a training: where it runs, and how its files take the place of those of an earlier one.

A training writes split, log and checkpoint into the subfolder `unfinished`, so that an earlier init in the folder stays
complete until the new one is. One process at a time trains into a folder.
"""

import re
from contextlib import ExitStack
from pathlib import Path

from episodes import InputError
from episodes.writing import write_bytes
from metawarp import outputs
from metawarp.inits.file import INIT_FILES
from metawarp.inits.init import Init
from metawarp.output_folder import UNFINISHED, begin, commit, discard, finish, format_of, locked, require_own
from metawarp.training.data import TrainingData, split_files
from metawarp.training.learning_curve import CURVE
from metawarp.training.run_folder import CHECKPOINT, LOG

KIND = "init"


def claim_run(folder: Path, n_corpora: int, overwrite: bool) -> None:
    """Check, before the work begins, that a training may write into a folder; InputError otherwise."""
    resumable = ", continue it with resume=True" if _checkpoint(folder) else ""
    advice = f"choose another folder{resumable}, or overwrite=True"
    if (folder / UNFINISHED / CHECKPOINT).exists() and not overwrite:
        raise InputError(f"output={str(folder)!r} holds an interrupted run; {advice}.")
    outputs.claim_folder(folder, _files(n_corpora), kind=KIND, overwrite=overwrite, advice=advice)
    require_own(folder, KIND)


def require_checkpoint(folder: Path) -> None:
    """InputError if there is no run in a folder that could be continued."""
    if not _checkpoint(folder):
        raise InputError(f"output={str(folder)!r} holds no {CHECKPOINT} to resume; start without resume=True.")


def begin_run(lock: ExitStack, folder: Path, data: TrainingData, overwrite: bool) -> None:
    """Lock a folder until the end of the training, and write the split."""
    lock.enter_context(locked(folder))
    finish(folder)
    claim_run(folder, len(data.splits), overwrite)  # again: another process may have trained meanwhile
    data.write_splits(begin(folder, KIND))


def continue_run(lock: ExitStack, folder: Path) -> None:
    """Lock a folder until the end of the training. The files of a run that had ended are copied into `unfinished`, from
    where it continues."""
    lock.enter_context(locked(folder))
    finish(folder)
    if not (folder / UNFINISHED / CHECKPOINT).exists():
        part = begin(folder, KIND)
        files = [*_splits(folder), folder / LOG, folder / CHECKPOINT]
        for file in files:  # the checkpoint comes last: with it, the run counts as one that can be continued
            if file.exists():
                write_bytes(part / file.name, file.read_bytes())
        lock.push(lambda error, *_: error is not None and discard(folder))


def end_run(folder: Path, init: Init) -> str:
    """Write the init, and let the files of the run take the place of an earlier one's; returns the sha256 of the
    tensors."""
    digest = init.write(folder / UNFINISHED)
    earlier = [*(file.name for file in _splits(folder)), CURVE] if format_of(folder) == f"metawarp-{KIND}" else []
    commit(folder, stale=earlier)
    return digest


def _splits(folder: Path) -> list[Path]:
    """The files that `split_files` names, whatever the number of corpora."""
    return [file for file in folder.glob("splits*.json") if re.fullmatch(r"splits(-\d+)?\.json", file.name)]


def _files(n_corpora: int) -> list[str]:
    return [*INIT_FILES, CHECKPOINT, *split_files(n_corpora), LOG, CURVE]


def _checkpoint(folder: Path) -> bool:
    return any((place / CHECKPOINT).exists() for place in (folder / UNFINISHED, folder))
