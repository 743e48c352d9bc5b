"""Several processes, as `torchrun` and `accelerate launch` start them; alone, it all is nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, PartialState


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


def _state() -> PartialState:
    return PartialState(cpu=not torch.accelerator.is_available())
