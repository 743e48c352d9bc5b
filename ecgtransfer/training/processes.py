"""Several processes, as `torchrun` and `accelerate launch` start them; alone, it all is nothing."""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
from accelerate import Accelerator, PartialState

#: Longest that processes wait for each other at a `meeting_point`.
LONGEST_WAIT = timedelta(days=30)
#: Seconds in which the threads of a process that has done its work come to an end.
LAST_WAIT = 0.2


def accelerator() -> Accelerator:
    """Device and processes of a training; on a machine without an accelerator, CPU processes."""
    _state()
    return Accelerator(cpu=not torch.accelerator.is_available())


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    main: bool = _state().is_main_process
    return main


@contextmanager
def main_process_first() -> Iterator[None]:
    """The main process goes through the block before the others do."""
    with _state().main_process_first():
        yield


def wait_for_everyone() -> None:
    """Go on when every process has come this far."""
    _state().wait_for_everyone()


def process_number() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are: (0, 1) alone."""
    state = _state()
    return int(state.process_index), int(state.num_processes)


def meeting_point() -> Callable[[], None]:
    """A function that goes on when every process has called it, be it days later.

    `wait_for_everyone` gives up after some minutes. Every process makes it, at about the same time.
    """
    if _state().num_processes == 1:
        return lambda: None
    group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)

    def meet() -> None:
        torch.distributed.barrier(group)

    return meet


def _state() -> PartialState:
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
    PartialState().destroy_process_group()
    time.sleep(LAST_WAIT)
