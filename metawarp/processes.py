"""The processes of one run: which tasks each one takes, and how their results become one.

A process takes every P-th task or episode. An episode is a function of (seed, i), so nothing has to be sent for that.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self, TypeVar

import torch.distributed.nn.functional  # noqa: F401  (before there is a process group: see `connect`)
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from episodes import InputError

Result = TypeVar("Result")

_LAUNCHERS = ("LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables of a process that was launched with others: by torch and Accelerate, or by MPI."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees it; without arguments, a single process.

    Attributes:
        index: index of this process.
        count: number P of processes.
        sharing_memory: number of processes that share the memory of this machine, or of this process's accelerator.
        device: device of this process; None: the one that was asked for.
    """

    index: int = 0
    count: int = 1
    sharing_memory: int = 1
    device: str | None = None

    @classmethod
    def connect(cls, device: str) -> Self:
        """Join the processes that `accelerate launch` has started; a single process if it was not used.

        The device is "cpu", or "cuda" and the like for one accelerator per process. InputError if several processes are
        given one accelerator.
        """
        # Accelerate's state is shared by the whole program, so it is not touched unless there is something to share.
        if not any(name in os.environ for name in _LAUNCHERS):
            return cls(device=device)
        kind, _, index = device.partition(":")
        # A process group that something still holds when the interpreter ends can crash the process (Gloo's threads).
        # torch's functional collectives hold the group that exists when they are imported, so they are imported above.
        joined = PartialState._shared_state != {}
        state = PartialState(cpu=kind == "cpu")
        if not joined and state.num_processes > 1:
            atexit.register(state.destroy_process_group)
        if state.num_processes == 1:
            return cls(device=device)
        if kind == "cpu":
            sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            return cls(state.process_index, state.num_processes, sharing, device)
        if index:
            given = f"device={device!r} is one accelerator for {state.num_processes} processes"
            raise InputError(f"{given}; use device={kind!r}.")
        return cls(state.process_index, state.num_processes, 1, f"{kind}:{state.local_process_index}")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def share(self, number: int) -> range:
        """The indices of this process among so many tasks or episodes: index, index + P, …"""
        return range(self.index, number, self.count)

    def in_order(self, own: Sequence[Result], number: int) -> list[Result]:
        """All `number` results in their order, from those of each process for its own `share(number)`."""
        if self.count == 1:
            return list(own)
        shares = gather_object([list(own)])
        return [shares[i % self.count][i // self.count] for i in range(number)]

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return values if self.count == 1 else reduce(values, reduction="sum")  # pyright: ignore[reportReturnType]

    def by_main(self, work: Callable[[], Result]) -> Result:
        """The result, or the error, of work that the main process does alone; every process receives it."""
        if self.count == 1:
            return work()
        outcome: list = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except Exception as error:  # any error, since the other processes wait
                outcome[1] = error
        result, error = broadcast_object_list(outcome)
        if error is not None:
            raise error
        return result

    def one_first(self) -> AbstractContextManager:
        """A context that one process of each machine enters first, so that the others find its work done."""
        return PartialState().local_main_process_first() if self.count > 1 else nullcontext()


SINGLE = Processes()
"""A run of one process."""
