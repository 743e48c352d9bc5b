"""Closeness to training patients, and membership inference, from distances between records."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import (
    weighted_macro_auroc,
)
from ecgtransfer.evaluation.privacy.lag_correlation import (
    IntArray,
    parts_of,
)
from ecgtransfer.evaluation.privacy.result import (
    POWER,
    TOLERANCE,
    Closeness,
    Membership,
)
from ecgtransfer.evaluation.privacy.sides import (
    require_patients,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    CONFIDENCE,
    Estimate,
    FloatArray,
    bootstrap,
    estimate,
    streams,
    wilson_estimate,
)

#: Default number of subsamples. Each draws one record per patient, and for the ratios as many
#: patients of each side.
SUBSAMPLES = 50

#: Largest number of patients drawn at a time in a bootstrap: 2**20 need 32 MiB.
DRAWN_AT_ONCE = 2**20


def measure_closeness(
    to_training: npt.ArrayLike,
    to_hold_out: npt.ArrayLike,
    training_patients: npt.ArrayLike | None = None,
    hold_out_patients: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
    subsamples: int = SUBSAMPLES,
) -> Closeness:
    """Measure whether generated records are closer to training than to hold-out patients.

    All values are means over subsamples with one record per patient.

    Share: each generated record is assigned to its closest patient; a tie counts one half for each.
    With c records per training patient and d per hold-out patient, the share is c / (c + d). It is
    0.5 without a leak for any numbers of patients, the plain share for equal numbers, and 1 if all
    records are copies. (Subsampling the training patients to equal numbers would also remove
    patients who were copied: with 80 against 26 patients a set of copies had a share of 0.62.)

    Ratio: distance to the nearest over that to the second nearest patient. It depends on the number
    of patients, so each subsample has as many patients of each side.

    Intervals: the patients of each side are resampled together with their counts, which reflect
    both which patients are close to generated records and which records were generated. The draws
    are widened by sqrt(P / (P - 1)) t / z for P patients, because a bootstrap of few patients is
    too narrow. If a few patients are closest to all records, for example because the generator has
    few prototypes, the bootstrap finds no variance: three patients who belong to training by chance
    would look like a certain leak. So the interval of the share is at least as wide as Wilson's for
    the effective number of records (`_effective_records`). In simulations the intervals of the
    share have a coverage of 94 to 99 % from 10 patients per side on. Those of the ratios ignore
    that the second nearest patient is random too and cover 90 %; no test uses them.

    Args:
        to_training: distances from G generated to n training records, (G, n).
        to_hold_out: distances from the generated to m hold-out records, (G, m).
        training_patients: patients (n,); None if every record is its own patient.
        hold_out_patients: patients (m,); None if every record is its own patient.
        seed: seed of subsamples and bootstrap.
        resamples: bootstrap resamples.
        subsamples: number of subsamples.

    Raises:
        CorpusError: a distance is negative or not finite, there is not one patient per record, or a
            side has fewer than 5 patients.
        ConfigError: there are fewer than 2 resamples or 1 subsample.
    """
    if resamples < 2 or subsamples < 1:
        raise ConfigError(
            f"expected at least 2 resamples and 1 subsample, got {resamples} and {subsamples}; "
            "raise them"
        )
    training, hold_out = (
        _PatientDistances.of(distances, patients)
        for distances, patients in (
            (to_training, training_patients),
            (to_hold_out, hold_out_patients),
        )
    )
    if training.distances.shape[1] != hold_out.distances.shape[1]:
        raise CorpusError(
            "expected distances of the same generated records to both sides, got "
            f"{training.distances.shape[1]} and {hold_out.distances.shape[1]}; compute both for "
            "the same records"
        )
    rng = streams.generator(seed, streams.CLOSENESS_SUBSAMPLES)
    sides = (training, hold_out)
    fewest = min(side.patients for side in sides)
    counts = [np.zeros(side.patients) for side in sides]
    ratios = [np.zeros((side.patients, 2)) for side in sides]
    fixed = all(len(side.distances) == fewest for side in sides)
    for _ in range(1 if fixed else subsamples):
        (mine, near), (other, far) = (side.nearest(side.draw(side.patients, rng)) for side in sides)
        won = (near[0] < far[0]) + 0.5 * (near[0] == far[0])
        counts[0] += np.bincount(mine, won, training.patients)
        counts[1] += np.bincount(other, 1 - won, hold_out.patients)
        for side, sums in zip(sides, ratios, strict=True):
            patient, (first, second) = side.nearest(side.draw(fewest, rng))
            ratio = np.divide(first, second, out=np.ones_like(first), where=second > 0)
            sums += np.column_stack(
                [np.bincount(patient, by, side.patients) for by in (ratio, np.ones_like(ratio))]
            )
    (per_training, training_draws), (per_hold_out, hold_out_draws) = (
        (by_patient.mean(), np.maximum(_resampled_means(by_patient, resamples, rng), 0))
        for by_patient in counts
    )
    total = training_draws + hold_out_draws
    share_draws = np.divide(training_draws, total, out=np.full(resamples, 0.5), where=total > 0)
    values, draws = [], []
    for sums in ratios:
        value = float(sums[:, 0].sum() / sums[:, 1].sum())
        influence = (sums[:, 0] - value * sums[:, 1]) / sums[:, 1].mean()
        values.append(value)
        draws.append(value + _resampled_means(influence, resamples, rng))
    share = estimate(per_training / (per_training + per_hold_out), share_draws)
    return Closeness(
        share=_hull(share, _share_of_few(counts[0], counts[1])),
        ratio_training=estimate(values[0], draws[0]),
        ratio_hold_out=estimate(values[1], draws[1]),
        ratio_excess=estimate(values[1] - values[0], draws[1] - draws[0]),
        training_patients=training.patients,
        hold_out_patients=hold_out.patients,
    )


def _share_of_few(training: FloatArray, hold_out: FloatArray) -> Estimate:
    """The share with Wilson's interval, from the counts of patients (P,) and (Q,).

    The plain share r of training records has Wilson's interval for the effective number of records.
    Value and ends are then converted to equal numbers of patients: r / (r + (1 - r) P / Q).
    """
    patients, others = len(training), len(hold_out)
    plain = float(training.sum() / (training.sum() + hold_out.sum()))
    effective = _effective_records(np.concatenate([training, hold_out]))
    found = wilson_estimate(plain, max(effective, 1.0))
    value, low, high = (
        share / (share + (1 - share) * patients / others)
        for share in (found.value, found.low, found.high)
    )
    return Estimate(value, low, high)


def _effective_records(counts: FloatArray) -> float:
    """Number of independent records that would give a share the same variance as these counts.

    The share of all records that a random part of the N patients has, with counts w, has the
    variance p (1 - p) N / (N - 1) (Σ w² / (Σ w)² - 1 / N), as in sampling without replacement. The
    effective number is 1 if all records belong to one patient, about k if they belong to k of many
    patients, and grows without bound if all patients have equal counts.
    """
    patients = len(counts)
    concentrated = float(np.square(counts / counts.sum()).sum()) - 1 / patients
    return (patients - 1) / patients / max(concentrated, float(np.finfo(np.float64).eps))


def _hull(found: Estimate, other: Estimate) -> Estimate:
    """Smallest interval that contains both intervals."""
    return Estimate(found.value, min(found.low, other.low), max(found.high, other.high))


def infer_membership(
    to_training: npt.ArrayLike,
    to_hold_out: npt.ArrayLike,
    training_patients: npt.ArrayLike | None = None,
    hold_out_patients: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Membership:
    """AUC of an attack that guesses members by their distance to the closest generated record.

    The score of a patient is that of the closest record, as an attacker would choose. More records
    per patient on one side would favour that side, so both sides must come from one split. The
    bootstrap resamples patients; the generated set is fixed, because it is the set to be released.

    Args:
        to_training: distance from each training record to its closest generated record, (n,).
        to_hold_out: distance from each hold-out record to its closest generated record, (m,).
        training_patients: patients (n,); None if every record is its own patient.
        hold_out_patients: patients (m,); None if every record is its own patient.
        seed: seed of the bootstrap.
        resamples: bootstrap resamples.

    Raises:
        CorpusError: a distance is negative or not finite, there is not one patient per record, or a
            side has fewer than 5 patients.
    """
    scores = []
    for distances, patients in (
        (to_training, training_patients),
        (to_hold_out, hold_out_patients),
    ):
        side = _PatientDistances.of(np.asarray(distances, dtype=np.float64)[None], patients)
        scores.append(-np.minimum.reduceat(side.distances[:, 0], side.starts))
    members, others = map(len, scores)
    auc = bootstrap(
        weighted_macro_auroc,
        np.repeat([1, 0], [members, others])[:, None],
        np.concatenate(scores)[:, None],
        resamples=resamples,
        seed=seed,
    )
    return Membership(auc, members, others, detectable_auc(members, others))


def detectable_auc(members: int, non_members: int) -> float:
    """Smallest AUC that the test detects with power `POWER` at these numbers of patients.

    It solves AUC - (z_0.975 + z_power) standard error = 0.5 + `TOLERANCE`, with the standard error
    of Hanley and McNeil (1982) for exponentially distributed scores.
    """
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER)

    def short_by(auc: float) -> float:
        both_above, both_below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
        variance = (
            auc * (1 - auc)
            + (members - 1) * (both_above - auc**2)
            + (non_members - 1) * (both_below - auc**2)
        ) / (members * non_members)
        return float(auc - reach * math.sqrt(max(variance, 0.0)) - 0.5 - TOLERANCE)

    return float(brentq(short_by, 0.5, 1))


@dataclass(frozen=True, eq=False)
class _PatientDistances:
    """Distances of real to generated records.

    Attributes:
        distances: distances (n, G), with the real records sorted by patient.
        starts: first row of each patient, (patients,).
    """

    distances: npt.NDArray[np.floating]
    starts: IntArray

    @classmethod
    def of(cls, distances: npt.ArrayLike, patients: npt.ArrayLike | None) -> "_PatientDistances":
        """Check and sort distances (G, n) and patients (n,) or None."""
        values = np.asarray(distances)
        if values.ndim != 2 or 0 in values.shape or not (values >= 0).all():
            raise CorpusError(
                f"expected distances of at least 0, (generated, records), got {values.shape} with "
                f"{int((~(values >= 0)).sum())} below 0 or missing; check the distances"
            )
        names = np.arange(values.shape[1]) if patients is None else np.asarray(patients)
        if names.shape != (values.shape[1],):
            raise CorpusError(
                f"expected one patient per record, {values.shape[1]}, got shape {names.shape}; "
                "pass one name for each"
            )
        order = np.argsort(names, kind="stable")
        starts = np.unique(names[order], return_index=True)[1]
        require_patients(len(starts))
        return cls(np.ascontiguousarray(values.T[order]), starts)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(self.starts)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Draw `count` different patients and one record of each; return both indices."""
        sizes = np.diff(np.append(self.starts, len(self.distances)))
        drawn = rng.permutation(self.patients)[:count]
        return drawn, self.starts[drawn] + (rng.random(count) * sizes[drawn]).astype(np.intp)

    def nearest(self, drawn: tuple[IntArray, IntArray]) -> tuple[IntArray, FloatArray]:
        """Patient of the nearest drawn record, (G,), and the two smallest distances, (2, G)."""
        patients, rows = drawn
        distances = self.distances[rows]
        column = np.arange(distances.shape[1])
        winner = distances.argmin(axis=0)
        first = distances[winner, column]
        distances[winner, column] = np.inf
        return patients[winner], np.array([first, distances.min(axis=0)], dtype=np.float64)


def _resampled_means(
    by_patient: FloatArray, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Bootstrap means (resamples,) of values (P,) of patients, widened for few patients."""
    patients = len(by_patient)
    tail = (1 + CONFIDENCE) / 2
    few = (
        math.sqrt(patients / (patients - 1))
        * stats.t.ppf(tail, patients - 1)
        / stats.norm.ppf(tail)
    )
    spread = by_patient.mean() + few * (by_patient - by_patient.mean())
    means = np.empty(resamples)
    for rows in parts_of(resamples, max(1, DRAWN_AT_ONCE // patients)):
        drawn = rng.integers(0, patients, size=(rows.stop - rows.start, patients))
        means[rows] = spread[drawn].mean(axis=1)
    return means
