"""Distributed training with `torchrun` or `accelerate launch`; no-ops in a single process.

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

#: Timeout of a barrier, see `make_barrier`.
LONGEST_WAIT = timedelta(days=30)
#: Environment variables with the number of processes, of torchrun, accelerate and MPI launchers.
NUMBER_OF_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
#: Seconds that communication threads get to finish when the process exits.
LAST_WAIT = 0.2


def accelerator() -> "Accelerator":
    """Accelerator for training: GPUs if there are any, else CPU processes."""
    import torch
    from accelerate import Accelerator

    _state()
    return Accelerator(cpu=not torch.accelerator.is_available())


def available_cores() -> int:
    """Number of CPU cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this process is the one that writes files and prints."""
    main: bool = _is_alone() or _state().is_main_process
    return main


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process first, then in the others."""
    with nullcontext() if _is_alone() else _state().main_process_first():
        yield


def wait_for_everyone() -> None:
    """Block until every process has called this function; times out after some minutes."""
    if not _is_alone():
        _state().wait_for_everyone()


def process_number() -> tuple[int, int]:
    """Rank of this process, from 0, and number of processes: (0, 1) for a single process."""
    if _is_alone():
        return 0, 1
    state = _state()
    return int(state.process_index), int(state.num_processes)


def make_barrier() -> Callable[[], None]:
    """Make a function that blocks until every process has called it, even days later.

    `wait_for_everyone` times out after some minutes. Call `make_barrier` in every process, at about
    the same time.
    """
    if _is_alone() or _state().num_processes == 1:
        return lambda: None
    import torch

    group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)

    def barrier() -> None:
        torch.distributed.barrier(group)

    return barrier


def _is_alone() -> bool:
    """Whether no launcher has started this process together with others."""
    return all(os.environ.get(name, "1") == "1" for name in NUMBER_OF_PROCESSES)


def _state() -> "PartialState":
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes > 1:
        _disconnect_at_exit()
    return state


@cache
def _disconnect_at_exit() -> None:
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Close the connections to the other processes before the interpreter exits.

    A thread of gloo may still wait for the interpreter lock to release a tensor that it has sent;
    it aborts the process if the interpreter exits meanwhile. It gets the lock during the sleep.
    Data-parallel modules keep such threads alive, so that they cannot be joined.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()
    time.sleep(LAST_WAIT)
