"""Records of a set with beats, beat shapes, age and sex, as a factorised model takes them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.labels import label_space
from ecgtransfer.diffusion import ConditionedRecords
from ecgtransfer.signals import beat_shapes, no_shapes

#: Labels that targets are likely to state, which a factorised source model always learns.
CORE_LABELS = label_space("icbeb9").names
#: Age that stands for "over 89" in PTB-XL, what is taken for it, and the oldest age otherwise.
OVER_89, TAKEN_FOR_OVER_89, OLDEST = 300.0, 92.0, 120.0
#: Fewest beats from which a rhythm and a beat shape are learned.
FEWEST_BEATS = 3


def conditioned_records(ecgset: ECGSet, names: Sequence[str]) -> ConditionedRecords:
    """The records of a set in a label space of `names`, each of which the set states.

    Beat shapes are taken from every record that has a beat; those of the others are zero.
    """
    columns = [ecgset.label_space.names.index(name) for name in names]
    return ConditionedRecords(
        signals=ecgset,
        labels=np.ascontiguousarray(ecgset.labels[:, columns]),
        beats=ecgset.beats,
        shapes_mv=record_shapes(ecgset, np.arange(len(ecgset))),
        age=ages(ecgset),
        sex=sexes(ecgset),
        core=tuple(number for number, name in enumerate(names) if name in CORE_LABELS),
    )


def record_shapes(ecgset: ECGSet, numbers: NDArray[np.integer]) -> NDArray[np.float32]:
    """Beat shapes of some records, (n, SHAPE_ROWS, 8, W) in millivolts; zero without a beat."""
    rate = ecgset.sampling_rate_hz
    shapes = []
    for part in np.array_split(numbers, 1 + len(numbers) // 512):
        for number, signal_mv in zip(part, ecgset.independent_mv(part), strict=True):
            beats = ecgset.beats[number]
            shapes.append(beat_shapes(signal_mv, beats, rate)[0] if len(beats) else no_shapes(rate))
    return np.stack(shapes)


def ages(ecgset: ECGSet) -> NDArray[np.float32]:
    """Age of each record in years, (N,); NaN where it is not stated."""
    stated = ecgset.records.age.to_numpy(np.float32, na_value=np.nan)
    stated = np.where(stated == OVER_89, TAKEN_FOR_OVER_89, stated)
    return np.where((stated >= 0) & (stated <= OLDEST), stated, np.nan).astype(np.float32)


def sexes(ecgset: ECGSet) -> NDArray[np.float32]:
    """Sex of each record, (N,): 0 male, 1 female, NaN not stated."""
    number = {"male": 0.0, "female": 1.0}
    stated = [number.get(sex, np.nan) for sex in ecgset.records.sex.tolist()]
    return np.array(stated, np.float32)
