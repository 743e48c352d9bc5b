"""What the fidelity question measures of each record of a set, and of the members of a class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import largest_half
from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.distances import (
    Distances,
)
from ecgtransfer.evaluation.fidelity.result import (
    CLASS,
)
from ecgtransfer.evaluation.halves import (
    Indices,
    patient_indices,
)
from ecgtransfer.evaluation.signal_distances import (
    lead_correlations,
    log_band_power,
    log_spectra,
)
from ecgtransfer.statistics import (
    FloatArray,
)

#: Records of a set that take part at most, drawn at random: five matrices of their distances are
#: 320 MiB, and more change the third digit.
LARGEST_SET = 4000

#: Fewest records a side in a class that is measured on its own: with 5 neighbours each, a ball
#: around one of fewer reaches through most of the class.
FEWEST_IN_A_CLASS = 20

Distance32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RecordMeasures:
    """What is measured of each record of a set: n rows everywhere."""

    features: FloatArray
    spectra: npt.NDArray[np.float32]
    bands: FloatArray
    correlations: FloatArray
    patients: npt.NDArray[np.generic] | None
    labels: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: Indices) -> "RecordMeasures":
        """The records at `index`."""
        return RecordMeasures(
            self.features[index],
            self.spectra[index],
            self.bands[index],
            self.correlations[index],
            None if self.patients is None else self.patients[index],
            None if self.labels is None else self.labels[index],
        )


def thinned_indices(records: int, rng: np.random.Generator) -> Indices | slice:
    """All of so many records, or `LARGEST_SET` of them drawn at random."""
    if records <= LARGEST_SET:
        return slice(None)
    return np.sort(rng.permutation(records)[:LARGEST_SET])


def measured_records(
    features: npt.ArrayLike,
    signals_mv: npt.ArrayLike,
    patients: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    sampling_rate_hz: float,
    kept: Indices | slice,
) -> RecordMeasures:
    """The kept records of a set, with what is measured of each."""
    values, signals = np.asarray(features, dtype=np.float64), np.asarray(signals_mv)
    if len(values) != len(signals):
        raise CorpusError(
            f"expected features and signals of the same records, got {len(values)} and "
            f"{len(signals)}"
        )
    names = None if patients is None else np.asarray(patients)
    hot = None if labels is None else np.asarray(labels) > 0
    if names is not None and names.shape != (len(values),):
        raise CorpusError(f"expected one patient per record, {len(values)}, got {names.shape}")
    if hot is not None and (hot.ndim != 2 or len(hot) != len(values)):
        raise CorpusError(f"expected labels ({len(values)} records, K), got shape {hot.shape}")
    signals = signals[kept]
    return RecordMeasures(
        features=values[kept],
        spectra=log_spectra(signals, sampling_rate_hz),
        bands=log_band_power(signals, sampling_rate_hz),
        correlations=lead_correlations(signals),
        patients=None if names is None else names[kept],
        labels=None if hot is None else hot[kept],
    )


def class_members(
    real: RecordMeasures,
    generated: RecordMeasures,
    source: RecordMeasures | None,
    label_names: Sequence[str] | None,
) -> tuple[dict[str, tuple[RecordMeasures, RecordMeasures, RecordMeasures | None]], dict[str, str]]:
    """Members of each class that can be measured, and why others cannot."""
    members: dict[str, tuple[RecordMeasures, RecordMeasures, RecordMeasures | None]] = {}
    left_out = {}
    for number, name in enumerate(label_names or ()):
        sides = [
            None if side is None else _members(side, number, len(label_names or ()))
            for side in (real, generated, source)
        ]
        mine, theirs, others = sides
        if mine is None or theirs is None:
            continue
        allowed = min(
            largest_half(patient_indices(side.patients, len(side))) if len(side) else 0
            for side in (mine, theirs)
        )
        if allowed < FEWEST_IN_A_CLASS:
            left_out[CLASS + name] = (
                f"{len(mine)} real and {len(theirs)} generated records allow {allowed} a side, "
                f"{FEWEST_IN_A_CLASS} are needed"
            )
        else:
            members[name] = mine, theirs, others
    return members, left_out


def _members(side: RecordMeasures, number: int, classes: int) -> RecordMeasures | None:
    """The records of a class; None for a set without labels."""
    if side.labels is None:
        return None
    if side.labels.shape[1] != classes:
        raise CorpusError(
            f"expected labels (records, {classes}), one column for each name, got "
            f"{side.labels.shape}"
        )
    return side.select(np.flatnonzero(side.labels[:, number]))


def distance_matrix(a: FloatArray, b: FloatArray) -> Distance32:
    """All distances (n, m) in float32: half the memory, and no measure sees the difference."""
    matrix = np.empty((len(a), len(b)), dtype=np.float32)
    for rows, distance in Distances.between(a, b).blocks():
        matrix[rows] = distance
    return matrix
