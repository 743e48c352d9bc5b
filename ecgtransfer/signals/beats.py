"""The beats of a recording: when each R is, and what kind of beat it is."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class BeatKind(IntEnum):
    """What kind of beat."""

    UNKNOWN = 0
    ORDINARY = 1
    VENTRICULAR = 2
    SUPRAVENTRICULAR = 3


@dataclass(frozen=True, eq=False)
class Beats:
    """Times of R in seconds from the record's start, and the kind of each beat."""

    times_s: NDArray[np.float64]
    kinds: NDArray[np.int8]
    duration_s: float

    def __len__(self) -> int:
        return len(self.times_s)
