"""Several processes, as `torchrun` and `accelerate launch` start them; alone, it all is nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState

#: Longest that processes wait for each other at a `meeting_point`.
LONGEST_WAIT = timedelta(days=30)


def accelerator() -> Accelerator:
    """Device and processes of a training; on a machine without an accelerator, CPU processes."""
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
    return PartialState(cpu=not torch.accelerator.is_available())
