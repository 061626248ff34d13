"""The processes of one run, as Accelerate connects them: who does what, and how their findings become one.

Every function is right in a single process too. A process takes every P-th task or episode; since an episode is a
function of (seed, i), nothing has to be sent for that.

References:
    Gugger et al. (2022), "Accelerate: Training and inference at scale made simple, efficient and adaptable".
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch.distributed.nn.functional  # noqa: F401  (before there is a group: see connect)
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from episodes import InputError

Found = TypeVar("Found")

_LAUNCHERS = ("LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which a process knows that it was launched beside others: by torch and Accelerate, or by MPI."""


def connect(device: str) -> str:
    """Join the processes that `accelerate launch` has started; nothing where it has not.

    Args:
        device: "cpu", or "cuda" and the like for one accelerator each.

    Returns:
        The device of this process.

    Raises:
        InputError: several processes are given one accelerator.
    """
    if not _launched():
        return device
    kind, _, index = device.partition(":")
    # A group that something still holds as the interpreter ends takes the process down with it now and then, when a
    # thread of Gloo's asks for the interpreter too late. torch's functional collectives hold the one that they find as
    # they are imported, which a first optimizer step does: they are imported above.
    joined = PartialState._shared_state != {}
    state = PartialState(cpu=kind == "cpu")
    if not joined and state.num_processes > 1:
        atexit.register(state.destroy_process_group)
    if kind == "cpu" or state.num_processes == 1:
        return device
    if index:
        raise InputError(f"device {device!r} is one for {count()} processes; say {kind}, and each takes its own.")
    return f"{kind}:{state.local_process_index}"


def _launched() -> bool:
    # Accelerate's state is shared by all of a program, so it is not touched where there is nothing to share.
    return any(name in os.environ for name in _LAUNCHERS)


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return not _launched() or PartialState().is_main_process


def count() -> int:
    """Number P of processes."""
    return PartialState().num_processes if _launched() else 1


def beside() -> int:
    """Number of processes that share the memory of this machine, or of this process's accelerator."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if count() > 1 and str(PartialState().device) == "cpu" else 1


def share(number: int) -> range:
    """Which of so many tasks or episodes are this process's: index, index + P, …"""
    return range(PartialState().process_index if count() > 1 else 0, number, count())


def in_order(own: Sequence[Found], number: int) -> list[Found]:
    """What all processes found, in the order of what they shared.

    Args:
        own: what this one found of its `share(number)`.
        number: of all.
    """
    if count() == 1:
        return list(own)
    shares = gather_object([list(own)])
    return [shares[i % count()][i // count()] for i in range(number)]


def by_main(work: Callable[[], Found]) -> Found:
    """What the main process gets by doing something alone; all processes get it, or its error."""
    if count() == 1:
        return work()
    outcome: list = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:  # whatever it is: the others wait
            outcome[1] = error
    found, error = broadcast_object_list(outcome)
    if error is not None:
        raise error
    return found


def one_first() -> AbstractContextManager:
    """One process of each machine does something first, so that the others find it done."""
    return PartialState().local_main_process_first() if count() > 1 else nullcontext()
