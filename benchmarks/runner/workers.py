"""Independent jobs in worker processes."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread

import torch
from tqdm import tqdm


class WorkerDiedError(RuntimeError):
    """A worker process was killed. What was measured before is kept."""


def run_jobs(work: Callable[..., object], jobs: Sequence[tuple[object, ...]], workers: int, label: str) -> None:
    """Run independent jobs.

    Args:
        work: function of a module, so that other processes can import it.
        jobs: arguments of each call.
        workers: number of processes with one thread each; 1: this process, with all of its threads.
        label: label of the progress bar.

    Raises:
        WorkerDiedError: a process was killed, usually because there was not enough memory.
    """
    if workers == 1:
        for job in tqdm(jobs, desc=label, mininterval=_seconds_between_updates()):
            work(*job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            done = as_completed(futures)
            for future in tqdm(done, total=len(jobs), desc=label, mininterval=_seconds_between_updates()):
                future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                f"One of {workers} worker processes was killed, probably because there was not enough memory. What was "
                "measured is kept; start again with fewer workers."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # running jobs finish and leave their files
            raise


def _seconds_between_updates() -> float:
    # A run of hours is often logged into a file, where every update is a line.
    return 0.1 if sys.stderr.isatty() else 60.0


def _prepare_worker() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers outlive a parent that is killed, and would train into the folders that the next run trains into.
    if parent := parent_process():
        parent.join()
        os._exit(1)
