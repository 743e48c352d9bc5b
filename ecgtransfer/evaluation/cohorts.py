"""Records that the questions compare, and how they are chosen."""

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
    """Some records of a set; their signals are read only by `load`.

    Attributes:
        ecgset: the set.
        labels: (N, K) of all its records, in the label space of the target.
        indices: (n,) of the records that belong to the cohort.
        patient_prefix: written before each patient, so that equal names in two sets are two people;
            None where every record is its own patient, as a synthetic one is.
    """

    ecgset: ECGSet
    labels: npt.NDArray[np.float32]
    indices: Indices
    patient_prefix: str | None = ""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def own_labels(self) -> npt.NDArray[np.float32]:
        """(n, K) of the records of the cohort."""
        return self.labels[self.indices]

    @property
    def patients(self) -> npt.NDArray[np.str_] | None:
        """(n,) or None where every record is its own patient."""
        if self.patient_prefix is None:
            return None
        names = self.ecgset.records.patient.iloc[self.indices].astype(str)
        return np.array([f"{self.patient_prefix}{name}" for name in names])

    @property
    def names(self) -> tuple[str, ...]:
        """(n,) of the records."""
        return tuple(self.ecgset.records.name.iloc[self.indices].astype(str))

    def select(self, positions: Indices) -> "Cohort":
        """The records at these positions, 0 to n - 1, of the cohort."""
        return replace(self, indices=self.indices[positions])

    def subsample(self, most: int, rng: np.random.Generator) -> "Cohort":
        """At most so many of the records, drawn at random, in their order."""
        return replace(self, indices=subsample(self.indices, most, rng))

    def signals_mv(self) -> npt.NDArray[np.float32]:
        """The independent leads (n, 8, T) in millivolts."""
        return self.ecgset.independent_mv(self.indices)

    def load(self) -> LabelledRecords:
        """Signals, labels and patients of all records of the cohort."""
        return LabelledRecords(self.signals_mv(), self.own_labels, self.patients)


@dataclass(frozen=True, eq=False)
class Cohorts:
    """What a question about synthetic sets is asked of.

    Attributes:
        train: records of the target that the generators learned from.
        test: of other patients of the target, which no training and no choice has seen.
        label_names: of the K labels, in order.
        synthetic: the sets, by the method that made them.
        source: training records of the source, or records that its model drew in their place; None
            for a question that asks for none.
    """

    train: Cohort
    test: Cohort
    label_names: tuple[str, ...]
    synthetic: Mapping[str, Cohort] = field(default_factory=dict)
    source: Cohort | None = None

    @property
    def sampling_rate_hz(self) -> float:
        """Of all signals."""
        return self.test.ecgset.sampling_rate_hz


def subsample(indices: Indices, most: int, rng: np.random.Generator) -> Indices:
    """At most so many of some indices, drawn at random, in their order."""
    return np.sort(rng.permutation(indices)[:most])


def match_class_mix(
    labels: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    rng: np.random.Generator,
    most: int = LARGEST_COHORT,
) -> Indices:
    """Indices of records whose classes are as frequent as in other records, without repeats.

    A set with as many records of each class differs from real patients by its class mix alone;
    a record is kept in proportion to how frequent its rarest label is among the others.

    Args:
        labels: of the records to choose from, (n, K).
        wanted: of the others, (m, K).
        rng: draws.
        most: how many to keep at most.
    """
    share_here = np.maximum(labels.mean(axis=0), 1e-9)
    ratio = wanted.mean(axis=0) / share_here
    weight = np.where(labels > 0, ratio, np.inf).min(axis=1)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    kept = np.flatnonzero(rng.random(len(labels)) * weight.max() < weight)
    return subsample(kept, most, rng)


def first_with_label(labels: npt.NDArray[np.float32], column: int) -> int | None:
    """The first record that has this label alone, else the first that has it at all."""
    for candidates in ((labels[:, column] > 0) & (labels.sum(1) == 1), labels[:, column] > 0):
        found = np.flatnonzero(candidates)
        if len(found):
            return int(found[0])
    return None


def require_at_least(count: int, fewest: int, what: str) -> None:
    """Raise ConfigError where there are too few records for a question."""
    if count < fewest:
        raise ConfigError(
            f"expected at least {fewest} {what}, got {count}; generate more of each class, or "
            "train on fewer of the target's records"
        )
