"""Closeness to training patients, and membership inference, from distances alone."""

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

#: Draws of one record a patient, and of equally many patients for the ratios.
SUBSAMPLES = 50

#: Patients drawn at once in a bootstrap: 2**20 need 32 MiB.
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
    """Share of generated records closer to training than to hold-out, and nearest-neighbour ratios.

    to_training (G, n), to_hold_out (G, m): distances of G generated records; patients (n,), (m,) or
    none. Everything is the mean over `subsamples` draws of one record of each patient.

    share: each generated record is counted for the patient closest to it, ties by halves; with c
    counts per training and d per hold-out patient the share is c / (c + d). So it is 0.5 without a
    leak whatever the numbers of patients, the plain share where they are equal, and 1 where all
    records are copies. (Leaving out training patients until both sides have as many would leave out
    those who were copied: with 80 against 26 a set of nothing but copies had a share of 0.62.)

    ratio: depends on the number of patients, so the draws take as many of one side as of the other.

    Intervals: patients of each side are resampled with their counts. Which patients attract, how
    many do, and which generated records were drawn are all in these counts. The draws are spread by
    sqrt(P / (P - 1)) t / z for P patients, which a bootstrap of few is short of. Where few patients
    attract all, as with a generator of few prototypes, resampling finds no variance: three that are
    training patients by chance looked like a certain leak. So the interval of the share is at least
    Wilson's for as many records as the counts are worth (`_worth`). Simulated, those of the share
    cover at 94 to 99 % from 10 patients a side on; those of the ratios, which forget that the
    second nearest patient is drawn too, at 90 %: no test rests on them.

    Raises:
        CorpusError: distances that are negative or not finite, patients of another number, fewer
            than 5 patients a side.
        ConfigError: fewer than 2 resamples or 1 subsample.
    """
    if resamples < 2 or subsamples < 1:
        raise ConfigError(
            f"expected at least 2 resamples and 1 subsample, got {resamples} and {subsamples}"
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
            f"{training.distances.shape[1]} and {hold_out.distances.shape[1]}"
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
    """The share, by the counts of patients (P,) and (Q,), with Wilson's interval.

    r, the plain share of training, has Wilson's interval for as many records as the counts are
    worth, whose ends are reckoned to equal numbers of patients: r / (r + (1 - r) P / Q).
    """
    patients, others = len(training), len(hold_out)
    plain = float(training.sum() / (training.sum() + hold_out.sum()))
    found = wilson_estimate(plain, max(_worth(np.concatenate([training, hold_out])), 1.0))
    value, low, high = (
        share / (share + (1 - share) * patients / others)
        for share in (found.value, found.low, found.high)
    )
    return Estimate(value, low, high)


def _worth(counts: FloatArray) -> float:
    """How many independent records the counts w of N patients are worth for a share of them.

    A random half (or other part) of the patients has a share of all records with the variance
    p (1 - p) N / (N - 1) (Σ w² / (Σ w)² - 1 / N), as sampling without replacement has. So it is 1
    where one patient attracts all, about k where k of many do, and grows without bound where all
    attract as many.
    """
    patients = len(counts)
    concentrated = float(np.square(counts / counts.sum()).sum()) - 1 / patients
    return (patients - 1) / patients / max(concentrated, float(np.finfo(np.float64).eps))


def _hull(found: Estimate, other: Estimate) -> Estimate:
    """An interval that holds both."""
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
    """AUC of an attack that takes for members those whom the generated set comes closest to.

    to_training (n,), to_hold_out (m,): distance of each real record to the generated record closest
    to it; patients (n,), (m,) or none. A patient's score is that of the record that lies closest,
    as an attacker would choose; where one side has more records a patient than the other, that
    favours it, so take both from one split. Patients are resampled, the generated set is the one
    that is to be given away. Errors as in `measure_privacy`.
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
    """Smallest AUC at which so many patients fail the test with a chance of `POWER`.

    AUC - (z_0.975 + z_power) standard error = 0.5 + `TOLERANCE`, with the standard error of Hanley
    and McNeil 1982 for scores whose two laws differ as exponentials do.
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
    """Distances (n, G), records sorted by patient; `starts` has each patient's first row."""

    distances: npt.NDArray[np.floating]
    starts: IntArray

    @classmethod
    def of(cls, distances: npt.ArrayLike, patients: npt.ArrayLike | None) -> "_PatientDistances":
        """From distances (G, n) and patients (n,) or none."""
        values = np.asarray(distances)
        if values.ndim != 2 or 0 in values.shape or not (values >= 0).all():
            raise CorpusError(
                f"expected distances of at least 0, (generated, records), got {values.shape} with "
                f"{int((~(values >= 0)).sum())} below 0 or missing"
            )
        names = np.arange(values.shape[1]) if patients is None else np.asarray(patients)
        if names.shape != (values.shape[1],):
            raise CorpusError(
                f"expected one patient per record, {values.shape[1]}, got {names.shape}"
            )
        order = np.argsort(names, kind="stable")
        starts = np.unique(names[order], return_index=True)[1]
        require_patients(len(starts))
        return cls(np.ascontiguousarray(values.T[order]), starts)

    @property
    def patients(self) -> int:
        """How many."""
        return len(self.starts)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """`count` patients without repeats, and the row of one record of each."""
        sizes = np.diff(np.append(self.starts, len(self.distances)))
        drawn = rng.permutation(self.patients)[:count]
        return drawn, self.starts[drawn] + (rng.random(count) * sizes[drawn]).astype(np.intp)

    def nearest(self, drawn: tuple[IntArray, IntArray]) -> tuple[IntArray, FloatArray]:
        """Among drawn records the nearest's patient, (G,); two smallest distances, (2, G)."""
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
    """Means of (P,) values over patients drawn with replacement, (resamples,), spread for few."""
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
