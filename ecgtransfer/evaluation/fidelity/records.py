"""Measurements of the single records of a set, and of the records of a class."""

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

#: Largest number of records of a set; of more, this many are drawn at random. Five matrices of
#: their distances need 320 MiB, and more records change the third digit only.
LARGEST_SET = 4000

#: Fewest records per side of a class that is measured on its own. With fewer, a ball that contains
#: 5 neighbours contains a large part of the class.
FEWEST_IN_A_CLASS = 20

Distance32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RecordMeasures:
    """Measurements of the n records of a set.

    Attributes:
        features: features (n, F).
        spectra: result of `log_spectra`, (n, leads, bins).
        bands: result of `log_band_power`, (n, bands).
        correlations: result of `lead_correlations`, (n, pairs of leads).
        patients: patients (n,); None if every record is its own patient.
        labels: labels (n, K), or None.
    """

    features: FloatArray
    spectra: npt.NDArray[np.float32]
    bands: FloatArray
    correlations: FloatArray
    patients: npt.NDArray[np.generic] | None
    labels: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: Indices) -> "RecordMeasures":
        """Return the measurements of the records at `index`."""
        return RecordMeasures(
            self.features[index],
            self.spectra[index],
            self.bands[index],
            self.correlations[index],
            None if self.patients is None else self.patients[index],
            None if self.labels is None else self.labels[index],
        )


def thinned_indices(records: int, rng: np.random.Generator) -> Indices | slice:
    """Indices of all records, or of `LARGEST_SET` drawn at random if there are more."""
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
    """Measure the records of a set at the indices `kept`.

    Args:
        features: features (n, F) of all records.
        signals_mv: signals (n, leads, T) in millivolts.
        patients: patients (n,), or None.
        labels: labels (n, K), or None.
        sampling_rate_hz: sampling rate of the signals.
        kept: indices of the records to measure.

    Raises:
        CorpusError: the numbers of features, signals, patients and labels differ.
    """
    values, signals = np.asarray(features, dtype=np.float64), np.asarray(signals_mv)
    if len(values) != len(signals):
        raise CorpusError(
            f"expected features and signals of the same records, got {len(values)} and "
            f"{len(signals)}; embed the same records"
        )
    names = None if patients is None else np.asarray(patients)
    hot = None if labels is None else np.asarray(labels) > 0
    if names is not None and names.shape != (len(values),):
        raise CorpusError(
            f"expected one patient per record, {len(values)}, got shape {names.shape}; pass one "
            "name for each"
        )
    if hot is not None and (hot.ndim != 2 or len(hot) != len(values)):
        raise CorpusError(
            f"expected labels ({len(values)} records, K), got shape {hot.shape}; pass those of the "
            "same records"
        )
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
    """Select the records of each class.

    Returns:
        Real, generated and source records of each class that can be measured, and the reason for
        each class that cannot.
    """
    members: dict[str, tuple[RecordMeasures, RecordMeasures, RecordMeasures | None]] = {}
    left_out = {}
    for column, name in enumerate(label_names or ()):
        of_real, of_generated, of_source = (
            None if side is None else _members(side, column, len(label_names or ()))
            for side in (real, generated, source)
        )
        if of_real is None or of_generated is None:
            continue
        allowed = min(
            largest_half(patient_indices(side.patients, len(side))) if len(side) else 0
            for side in (of_real, of_generated)
        )
        if allowed < FEWEST_IN_A_CLASS:
            left_out[CLASS + name] = (
                f"{len(of_real)} target and {len(of_generated)} generated records allow {allowed} "
                f"per side, but {FEWEST_IN_A_CLASS} are needed"
            )
        else:
            members[name] = of_real, of_generated, of_source
    return members, left_out


def _members(side: RecordMeasures, column: int, classes: int) -> RecordMeasures | None:
    """Select the records of a class; None for a set without labels."""
    if side.labels is None:
        return None
    if side.labels.shape[1] != classes:
        raise CorpusError(
            f"expected labels (records, {classes}), one column for each name, got shape "
            f"{side.labels.shape}; encode all sets with one LabelSpace"
        )
    return side.select(np.flatnonzero(side.labels[:, column]))


def distance_matrix(a: FloatArray, b: FloatArray) -> Distance32:
    """All distances (n, m), in float32: half the memory, and precise enough for all measures."""
    matrix = np.empty((len(a), len(b)), dtype=np.float32)
    for rows, distance in Distances.between(a, b).blocks():
        matrix[rows] = distance
    return matrix
