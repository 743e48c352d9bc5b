"""Records of a set with beats, beat shapes, age and sex: the inputs of a factorised model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.labels import label_space
from ecgtransfer.diffusion import ConditionedRecords
from ecgtransfer.signals import beat_shapes, no_shapes

#: Labels that most targets state; a factorised source model always learns them.
CORE_LABELS = label_space("icbeb9").names
#: PTB-XL states an age over 89 as 300; we use 92 instead. Other ages above 120 are not valid.
OVER_89, TAKEN_FOR_OVER_89, OLDEST = 300.0, 92.0, 120.0
#: Fewest beats of a record for the training of rhythm and beat shapes.
FEWEST_BEATS = 3


def conditioned_records(ecgset: ECGSet, names: Sequence[str]) -> ConditionedRecords:
    """Return the records of a set with labels `names`, all of which the set states.

    The beat shapes of a record without beats are zero.
    """
    columns = [ecgset.label_space.names.index(name) for name in names]
    return ConditionedRecords(
        signals=ecgset,
        labels=np.ascontiguousarray(ecgset.labels[:, columns]),
        beats=ecgset.beats,
        shapes_mv=record_shapes(ecgset, np.arange(len(ecgset))),
        age=ages(ecgset),
        sex=sexes(ecgset),
        core=tuple(column for column, name in enumerate(names) if name in CORE_LABELS),
    )


def record_shapes(ecgset: ECGSet, indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """Beat shapes of the records at `indices`, (n, SHAPE_ROWS, 8, W) in mV; zero without beats."""
    rate = ecgset.sampling_rate_hz
    shapes = []
    for part in np.array_split(indices, 1 + len(indices) // 512):
        for index, signal_mv in zip(part, ecgset.independent_mv(part), strict=True):
            beats = ecgset.beats[index]
            shapes.append(beat_shapes(signal_mv, beats, rate)[0] if len(beats) else no_shapes(rate))
    return np.stack(shapes)


def ages(ecgset: ECGSet) -> NDArray[np.float32]:
    """Age of each record in years, (N,); NaN if it is not stated."""
    stated = ecgset.records.age.to_numpy(np.float32, na_value=np.nan)
    stated = np.where(stated == OVER_89, TAKEN_FOR_OVER_89, stated)
    return np.where((stated >= 0) & (stated <= OLDEST), stated, np.nan).astype(np.float32)


def sexes(ecgset: ECGSet) -> NDArray[np.float32]:
    """Sex of each record, (N,): 0 for male, 1 for female, NaN if it is not stated."""
    values = {"male": 0.0, "female": 1.0}
    stated = [values.get(sex, np.nan) for sex in ecgset.records.sex.tolist()]
    return np.array(stated, np.float32)
