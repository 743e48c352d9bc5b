"""Records with their conditions, for training and scoring."""

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
    """The part of `ECGSet` that training needs."""

    @property
    def labels(self) -> np.ndarray:
        """Multi-hot labels, (N, K)."""
        ...

    def independent_mv(self, index: np.ndarray) -> np.ndarray:
        """Signals of the records with these indices, (n, 8, T) float32 in millivolts."""
        ...


@dataclass(frozen=True, eq=False)
class ConditionedRecords:
    """Records with their beats, beat shapes, ages and sexes.

    Attributes:
        signals: source of the signals, (N, 8, T) in millivolts.
        labels: (N, K) multi-hot.
        beats: beats of each record.
        shapes_mv: (N, SHAPE_ROWS, 8, W) from `signals.beat_shapes`.
        age: (N,) years, NaN if unknown.
        sex: (N,) 0 male, 1 female, NaN if unknown.
        core: columns of `labels` that a target is likely to annotate, see `hide_statements`.
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
        """Signals of the records with these indices, (n, 8, T) float32 in millivolts."""
        return self.signals.independent_mv(index)


#: Fraction of training records with all statements hidden, and fraction with all but the `core`
#: statements hidden. In each other record, every statement is hidden with a probability that is
#: drawn for the record.
ALL_HIDDEN, ALL_BUT_CORE_HIDDEN = 0.1, 0.45
#: Fraction of training records with hidden age; the same, independently, for sex.
PATIENT_HIDDEN = 0.2


def hide_statements(
    shape: Sequence[int], core: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Draw which statements of each training record the network sees, (B, K) bool.

    A target rarely annotates all statements of the source, so that the network must cope with any
    subset: none (for classifier-free guidance), only the `core` columns, or a random subset.
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


def hide_values(values: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a fifth of the ages or sexes (B,) by NaN, which means unknown."""
    hidden = torch.rand(len(values), generator=generator) < PATIENT_HIDDEN
    return torch.where(hidden, torch.nan, values)
