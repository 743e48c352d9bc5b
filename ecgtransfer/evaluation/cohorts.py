"""Records that the evaluations compare, and how they are selected."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus import ECGSet
from ecgtransfer.defaults import LARGEST_COHORT
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.labelled import LabelledRecords

Indices = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Selected records of a set, whose signals are read only by `signals_mv` and `load`.

    Attributes:
        ecgset: the set.
        labels: multi-hot labels (N, K) of all records of the set, in the target's label space.
        indices: indices (n,) of the selected records.
        patient_prefix: prefix of patient names, so that equal names in two sets are two patients;
            None if every record is its own patient, as in a synthetic set.
    """

    ecgset: ECGSet
    labels: npt.NDArray[np.float32]
    indices: Indices
    patient_prefix: str | None = ""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def own_labels(self) -> npt.NDArray[np.float32]:
        """Labels (n, K) of the selected records."""
        return self.labels[self.indices]

    @property
    def patients(self) -> npt.NDArray[np.str_] | None:
        """Patients (n,) of the selected records; None if every record is its own patient."""
        if self.patient_prefix is None:
            return None
        names = self.ecgset.records.patient.iloc[self.indices].astype(str)
        return np.array([f"{self.patient_prefix}{name}" for name in names])

    @property
    def names(self) -> tuple[str, ...]:
        """Names (n,) of the selected records."""
        return tuple(self.ecgset.records.name.iloc[self.indices].astype(str))

    def select(self, positions: Indices) -> "Cohort":
        """Return the cohort of the records at these positions, 0 to n - 1."""
        return replace(self, indices=self.indices[positions])

    def subsample(self, most: int, rng: np.random.Generator) -> "Cohort":
        """Return a cohort of at most `most` records, drawn at random and kept in order."""
        return replace(self, indices=subsample(self.indices, most, rng))

    def signals_mv(self) -> npt.NDArray[np.float32]:
        """Return the independent leads (n, 8, T) in millivolts."""
        return self.ecgset.independent_mv(self.indices)

    def load(self) -> LabelledRecords:
        """Return signals, labels and patients of all selected records."""
        return LabelledRecords(self.signals_mv(), self.own_labels, self.patients)


@dataclass(frozen=True, eq=False)
class Cohorts:
    """All records that an evaluation compares.

    Attributes:
        train: target records that the generators were trained on.
        test: target records of other patients, used by no training and no selection.
        label_names: names of the K labels, in order.
        synthetic: synthetic sets by transfer method.
        source: training records of the source, or surrogates sampled from its model; None if the
            evaluation needs none.
    """

    train: Cohort
    test: Cohort
    label_names: tuple[str, ...]
    synthetic: Mapping[str, Cohort] = field(default_factory=dict)
    source: Cohort | None = None

    @property
    def sampling_rate_hz(self) -> float:
        """Sampling rate of all signals."""
        return self.test.ecgset.sampling_rate_hz


def subsample(indices: Indices, most: int, rng: np.random.Generator) -> Indices:
    """Return at most `most` of the indices, drawn at random, in increasing order."""
    return np.sort(rng.permutation(indices)[:most])


def match_class_mix(
    labels: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    rng: np.random.Generator,
    most: int = LARGEST_COHORT,
) -> Indices:
    """Select records at random whose class frequencies match those of other records.

    A set with equal class counts differs from real patients by its class mix alone. The
    probability of keeping a record is proportional to the smallest ratio, over its labels, of
    wanted to present frequency.

    Args:
        labels: labels of the records to select from, (n, K).
        wanted: labels of the other records, (m, K).
        rng: random number generator.
        most: largest number of records to return.

    Returns:
        Increasing indices into `labels`, without repeats.
    """
    share_here = np.maximum(labels.mean(axis=0), 1e-9)
    ratio = wanted.mean(axis=0) / share_here
    weight = np.where(labels > 0, ratio, np.inf).min(axis=1)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    kept = np.flatnonzero(rng.random(len(labels)) * weight.max() < weight)
    return subsample(kept, most, rng)


def first_with_label(labels: npt.NDArray[np.float32], column: int) -> int | None:
    """Index of the first record with only this label, else of the first with it, else None."""
    for candidates in ((labels[:, column] > 0) & (labels.sum(1) == 1), labels[:, column] > 0):
        found = np.flatnonzero(candidates)
        if len(found):
            return int(found[0])
    return None


def require_at_least(count: int, fewest: int, what: str) -> None:
    """Check that there are enough records for an evaluation.

    Raises:
        ConfigError: there are fewer than `fewest`.
    """
    if count < fewest:
        raise ConfigError(
            f"expected at least {fewest} {what}, got {count}; generate more of each class, or "
            "train on fewer of the target's records"
        )
