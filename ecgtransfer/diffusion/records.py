"""Records with what they are conditioned on, for training and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.signals.beats import Beats


class Records(Protocol):
    """What training needs of an `ECGSet`."""

    @property
    def labels(self) -> np.ndarray:
        """(N, K) multi-hot."""
        ...

    def independent_mv(self, index: np.ndarray) -> np.ndarray:
        """(n, 8, T) float32 millivolts."""
        ...


@dataclass(frozen=True, eq=False)
class ConditionedRecords:
    """Records with their beats, beat shapes, ages and sexes.

    Attributes:
        signals: (N, 8, T) millivolts by record numbers.
        labels: (N, K) multi-hot.
        beats: of each record.
        shapes_mv: (N, SHAPE_ROWS, 8, W) from `signals.beat_shapes`.
        age: (N,) years, NaN where not stated.
        sex: (N,) 0 male, 1 female, NaN where not stated.
        core: columns of `labels` that a target is likely to state, see `hide_statements`.
    """

    signals: Records
    labels: NDArray[np.float32]
    beats: Sequence[Beats]
    shapes_mv: NDArray[np.float32]
    age: NDArray[np.float32]
    sex: NDArray[np.float32]
    core: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = [
            len(part) for part in (self.labels, self.beats, self.shapes_mv, self.age, self.sex)
        ]
        if len(set(sizes)) > 1:
            raise ConfigError(
                "expected labels, beats, shapes, ages and sexes of the same records, got "
                f"{', '.join(map(str, sizes))} of them"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def independent_mv(self, index: np.ndarray) -> np.ndarray:
        """(n, 8, T) float32 millivolts."""
        return self.signals.independent_mv(index)


#: Shares of training records whose statements are all hidden, and all but those that a target is
#: likely to state; in the others each statement is hidden with a probability of the record's own.
ALL_HIDDEN, ALL_BUT_CORE_HIDDEN = 0.1, 0.45
#: Share of training records whose age, or sex, is hidden.
PATIENT_HIDDEN = 0.2


def hide_statements(
    shape: Sequence[int], core: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Which statements a training record is told of, (B, K) bool.

    A target rarely states all that the source does, so that a network must serve whatever is
    stated: nothing (for classifier-free guidance), the `core` columns alone, or any subset.
    """
    rows, statements = shape
    chance = torch.rand(rows, 1, generator=generator)
    own = torch.rand(rows, 1, generator=generator)
    any_subset = torch.rand(rows, statements, generator=generator) >= own
    of_core = torch.zeros(statements, dtype=torch.bool)
    of_core[list(core)] = True
    if not len(core):
        of_core[:] = True
    known = torch.where(chance < ALL_HIDDEN + ALL_BUT_CORE_HIDDEN, of_core, any_subset)
    return known & (chance >= ALL_HIDDEN)


def hide_numbers(values: Tensor, generator: torch.Generator) -> Tensor:
    """Ages or sexes (B,) of which a fifth is NaN, not known."""
    hidden = torch.rand(len(values), generator=generator) < PATIENT_HIDDEN
    return torch.where(hidden, torch.nan, values)
