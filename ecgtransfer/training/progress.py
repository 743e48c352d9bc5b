"""Progress of trainings: callbacks that a caller may give."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from ecgtransfer.training.loop import Progress

#: Gives a progress callback for a training, by its name.
Bars: TypeAlias = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]


@contextmanager
def no_bars(task: str) -> Iterator[Callable[[Progress], None]]:
    """Progress that is not shown."""
    yield lambda now: None
