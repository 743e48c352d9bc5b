"""Several processes, as `torchrun` and `accelerate launch` start them; alone, it all is nothing.

A process that no launcher started answers without torch, which takes seconds to import.
"""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

#: Longest that processes wait for each other at a `meeting_point`.
LONGEST_WAIT = timedelta(days=30)
#: What launchers state of the number of processes: torchrun and accelerate, and those of MPI.
NUMBER_OF_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
#: Seconds in which the threads of a process that has done its work come to an end.
LAST_WAIT = 0.2


def accelerator() -> "Accelerator":
    """Device and processes of a training; on a machine without an accelerator, CPU processes."""
    import torch
    from accelerate import Accelerator

    _state()
    return Accelerator(cpu=not torch.accelerator.is_available())


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    main: bool = _is_alone() or _state().is_main_process
    return main


@contextmanager
def main_process_first() -> Iterator[None]:
    """The main process goes through the block before the others do."""
    with nullcontext() if _is_alone() else _state().main_process_first():
        yield


def wait_for_everyone() -> None:
    """Go on when every process has come this far."""
    if not _is_alone():
        _state().wait_for_everyone()


def process_number() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are: (0, 1) alone."""
    if _is_alone():
        return 0, 1
    state = _state()
    return int(state.process_index), int(state.num_processes)


def meeting_point() -> Callable[[], None]:
    """A function that goes on when every process has called it, be it days later.

    `wait_for_everyone` gives up after some minutes. Every process makes it, at about the same time.
    """
    if _is_alone() or _state().num_processes == 1:
        return lambda: None
    import torch

    group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)

    def meet() -> None:
        torch.distributed.barrier(group)

    return meet


def _is_alone() -> bool:
    """Whether no launcher has started this process together with others."""
    return all(os.environ.get(name, "1") == "1" for name in NUMBER_OF_PROCESSES)


def _state() -> "PartialState":
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes > 1:
        _part_at_exit()
    return state


@cache
def _part_at_exit() -> None:
    atexit.register(_part)


def _part() -> None:
    """Close the connections to the other processes before the interpreter goes down.

    A thread of gloo may still wait for the interpreter's lock, to let go of a tensor it has sent;
    it aborts a process that goes down meanwhile. It gets the lock while this one sleeps: data
    parallel modules keep such threads alive, so that they cannot be waited for.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()
    time.sleep(LAST_WAIT)
