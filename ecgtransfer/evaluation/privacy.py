"""Does a generated set give away the patients that its generator learned from? (numpy and scipy)

Training records, which the generator or its guidance learned from, are held against hold-out
records of other patients of the same hospital, which it never saw. A generator that has learned the
hospital and not its patients is as near to the one as to the other. Every test asks for a
difference between the two sides; none asks whether a distance is small, for hearts resemble each
other.

What is random is the patients. A few of them attract most generated records, and those would be
others in another sample of the hospital; more generated records do not mend that. So patients are
drawn, subsampled and resampled, never records, and each side apart, because how many patients it
has was decided and did not happen.

Two spaces: the signal itself (`correlations_over_lags`) finds copied recordings; the features of a
classifier find resemblance that a shifted or redrawn beat hides. The classifier must not have
learned from either side: one trained on the training records knows them, and tells them from the
hold-out whatever the generator did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq
from scipy.spatial.distance import cdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.lag_correlation import (
    FILTERED_AT_ONCE,
    Float32Array,
    IntArray,
    PairsDone,
    Spectra,
    Tally,
    Waves,
    common_lags,
    correlation_by_lag,
    correlations_over_lags,
    filtered_waves,
    parts_of,
)
from ecgtransfer.evaluation.metrics import (
    weighted_macro_auroc,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    CONFIDENCE,
    Estimate,
    FloatArray,
    Verdict,
    bootstrap,
    estimate,
    streams,
    wilson_estimate,
)

#: Largest shift at which a copy is looked for, in seconds. Further ones leave less of 10 s to
#: compare, which makes strangers alike: the closest of 2.25 million pairs of PTB-XL patients
#: correlate at 0.90 within 2 s and at 0.95 within 5 s.
LARGEST_LAG_S = 2.0


#: Correlation above which a generated record can be a copy. White noise of 50 microvolts leaves a
#: copy at 0.99 (median of 106 ICBEB records; 0.975 at the fifth percentile); different PTB-XL
#: patients stay at 0.90 and below (see `LARGEST_LAG_S`).
COPY_CORRELATION = 0.95
#: And a copy is at most this part as far (in 1 - correlation) from a training record as the most
#: similar real stranger is: where real people are very much alike, likeness proves less.
COPY_MARGIN = 0.5
#: Records of two real patients above this are one recording under two names, a fault of the table
#: and no measure of how much strangers resemble each other.
SAME_RECORDING = 0.99
#: Copies that a set may hold: one patient given away is one too many.
ALLOWED_COPIES = 0

#: A share or an AUC fails when the lower end of its interval is above 0.5 by more than this. Any
#: fitted model is a little nearer to the sample it was fitted to; at 0.55 an attacker who is shown
#: one member and one stranger is right 55 times in 100.
TOLERANCE = 0.05

#: What no test here finds.
NOT_LOOKED_FOR = (
    "copies shifted further, stretched in time or cut into pieces, and patients of the source"
)

#: Chance with which a leak of the stated size would have been found.
POWER = 0.8

#: Fewest patients a side that resampling can say anything about.
FEWEST_PATIENTS = 5

#: Draws of one record a patient, and of equally many patients for the ratios.
SUBSAMPLES = 50

#: Closest pairs kept for the report.
GALLERY = 12


#: Patients drawn at once in a bootstrap: 2**20 need 32 MiB.
DRAWN_AT_ONCE = 2**20


Space = Literal["signal", "embedding"]


@dataclass(frozen=True, eq=False)
class PrivacySide:
    """Records of one side of the comparison.

    signals_mv (n, 8, T) the independent leads in millivolts; features (n, F) of a classifier that
    learned from neither side, standardised by one scale for all sides, or none; patients (n,) or
    none where every record is its own patient; names (n,) or none for numbers from 0. CorpusError
    for other shapes, no records, or values that are not finite.
    """

    signals_mv: Float32Array
    features: npt.NDArray[np.floating] | None = None
    patients: npt.NDArray[np.generic] | None = None
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        signals = np.asarray(self.signals_mv)
        if signals.ndim != 3 or 0 in signals.shape or not np.isfinite(signals).all():
            raise CorpusError(
                f"expected finite signals (records, leads, samples), got {signals.shape}; leave "
                "out the records that are not"
            )
        n = len(signals)
        if self.features is not None:
            features = np.asarray(self.features)
            if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
                raise CorpusError(
                    f"expected finite features (records, F) of the {n} records, got "
                    f"{features.shape}; embed the same records"
                )
        for what, values in (("patient", self.patients), ("name", self.names)):
            if values is not None and np.shape(values) != (n,):
                raise CorpusError(
                    f"expected one {what} per record, {n}, got {np.shape(values)}; give all or none"
                )

    def __len__(self) -> int:
        return len(self.signals_mv)

    def name(self, number: int) -> str:
        """What the record is called."""
        return str(number) if self.names is None else str(self.names[number])


class ClosePair(NamedTuple):
    """A generated record and the training record closest to it.

    The generated record shows `lag_s` later what the training record shows; `correlation` is that
    of `correlations_over_lags` at this lag, `distance` that of the space the pair was found in.
    """

    generated: int
    generated_name: str
    training: int
    training_name: str
    distance: float
    correlation: float
    lag_s: float

    def to_dict(self) -> dict[str, int | float | str]:
        """Plain values for JSON."""
        return dict(self._asdict())


@dataclass(frozen=True)
class Closeness:
    """How near generated records are to each side, at equal numbers of patients a side.

    share: of generated records that are closer to a training than to a hold-out patient, were there
    as many of both (`measure_closeness`); 0.5 without a leak. ratio_training, ratio_hold_out: mean
    of the distance to the nearest patient over that to the second nearest; a copy has a ratio near
    0. ratio_excess: hold-out minus training, above 0 where generated records cling to single
    training patients.
    """

    share: Estimate
    ratio_training: Estimate
    ratio_hold_out: Estimate
    ratio_excess: Estimate
    training_patients: int
    hold_out_patients: int

    @property
    def passed(self) -> bool:
        """Whether the share's interval does not lie above 0.5 by more than `TOLERANCE`."""
        return self.share.low <= 0.5 + TOLERANCE

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "closer_to_training": self.share.to_dict(),
            "largest_lower_end": 0.5 + TOLERANCE,
            "passed": self.passed,
            "nearest_neighbour_ratio_training": self.ratio_training.to_dict(),
            "nearest_neighbour_ratio_hold_out": self.ratio_hold_out.to_dict(),
            "nearest_neighbour_ratio_excess": self.ratio_excess.to_dict(),
            "training_patients": self.training_patients,
            "hold_out_patients": self.hold_out_patients,
        }


@dataclass(frozen=True)
class Membership:
    """An attacker who takes for members the patients that the generated set comes closest to.

    auc: with its interval over patients, given this generated set; 0.5 without a leak. detectable:
    the smallest AUC that so many patients fail with a chance of `POWER`.
    """

    auc: Estimate
    members: int
    non_members: int
    detectable: float

    @property
    def passed(self) -> bool:
        """Whether the interval does not lie above 0.5 by more than `TOLERANCE`."""
        return self.auc.low <= 0.5 + TOLERANCE

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "auc": self.auc.to_dict(),
            "largest_lower_end": 0.5 + TOLERANCE,
            "passed": self.passed,
            "members": self.members,
            "non_members": self.non_members,
            "detectable_auc": self.detectable,
            "power": POWER,
        }


@dataclass(frozen=True)
class SpacePrivacy:
    """Closeness, membership and the closest pairs in one space."""

    space: Space
    closeness: Closeness
    membership: Membership
    closest_pairs: tuple[ClosePair, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "closeness": self.closeness.to_dict(),
            "membership": self.membership.to_dict(),
            "closest_pairs": [pair.to_dict() for pair in self.closest_pairs],
        }


class ClosestCorrelation(NamedTuple):
    """Correlation of records with the training record most like them."""

    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, correlations: npt.ArrayLike) -> "ClosestCorrelation":
        """Median, 95th percentile and largest of correlations (n,)."""
        median, high, largest = np.quantile(np.asarray(correlations, np.float64), [0.5, 0.95, 1.0])
        return cls(float(median), float(high), float(largest))

    def __str__(self) -> str:
        return f"{self.median:.3f}, {self.high:.3f}, {self.largest:.3f}"


@dataclass(frozen=True)
class CopySearch:
    """Generated records that repeat a training record, shifted or not.

    threshold: correlation above which a record is a suspected copy, the larger of
    `COPY_CORRELATION` and what the most similar real strangers ask for (`copy_threshold`).
    generated, hold_out: correlation with the closest training record; hold_out is none where every
    hold-out record is a training record under another name. copied_patients: training patients
    whose records are repeated.
    """

    threshold: float
    largest_lag_s: float
    generated: ClosestCorrelation
    hold_out: ClosestCorrelation | None
    generated_records: int
    suspected: tuple[ClosePair, ...]
    copied_patients: int

    @property
    def passed(self) -> bool:
        """Whether there are no more than `ALLOWED_COPIES`."""
        return len(self.suspected) <= ALLOWED_COPIES

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "threshold": self.threshold,
            "largest_lag_s": self.largest_lag_s,
            "generated": self.generated._asdict(),
            "hold_out": None if self.hold_out is None else self.hold_out._asdict(),
            "generated_records": self.generated_records,
            "suspected": [pair.to_dict() for pair in self.suspected],
            "suspected_records": len(self.suspected),
            "copied_patients": self.copied_patients,
            "allowed": ALLOWED_COPIES,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class PrivacyResult:
    """What was found out about the privacy of a generated set; `verdicts` says it in words."""

    spaces: tuple[SpacePrivacy, ...]
    copies: CopySearch
    notes: tuple[str, ...]
    training_records: int
    hold_out_records: int

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.copies.passed and all(
            found.closeness.passed and found.membership.passed for found in self.spaces
        )

    def verdicts(self) -> tuple[Verdict, ...]:
        """The whole first, then each test with its threshold, then notes, which judge nothing."""
        tests = [Verdict(self.copies.passed, self._on_copies())]
        for found in self.spaces:
            tests.append(Verdict(found.closeness.passed, _on_closeness(found)))
            tests.append(Verdict(found.membership.passed, _on_membership(found)))
        failed = [test.passed for test in tests].count(False)
        members, others = self.spaces[0].membership.members, self.spaces[0].membership.non_members
        of_patients = f"of {members} training and {others} hold-out patients"
        whole = (
            f"Failed: {failed} of {len(tests)} tests {of_patients} found training patients in the "
            "generated set; do not pass it on."
            if failed
            else f"Passed: none of {len(tests)} tests {of_patients} found a training patient in "
            "the generated set."
        )
        whole += f" {self.scope()}"
        notes = (Verdict(None, note) for note in self.notes)
        return (Verdict(not failed, whole), *tests, *notes)

    def scope(self) -> str:
        """What was looked for and what was not: a pass says nothing about the latter."""
        spaces = " and ".join(found.space for found in self.spaces)
        return (
            f"Looked for: copies shifted by up to {self.copies.largest_lag_s:g} s, whatever their "
            "amplitude and baseline; generated records closer to training than to hold-out "
            f"patients, and an attacker who tells the two apart, both in {spaces} space. Not "
            f"looked for: {NOT_LOOKED_FOR}."
        )

    def rows(self) -> list[tuple[str, ...]]:
        """(measure, space, generated, without a leak, limit, verdict) for a table, header first."""
        rows: list[tuple[str, ...]] = [
            ("measure", "space", "generated", "without a leak", "limit", "verdict")
        ]
        limit = f"lower end at most {0.5 + TOLERANCE:.2f}"
        for found in self.spaces:
            near, attack = found.closeness, found.membership
            rows += [
                (
                    "share closer to training than to hold-out",
                    found.space,
                    str(near.share),
                    "0.5",
                    limit,
                    _word(near.passed),
                ),
                (
                    "nearest-neighbour distance ratio, training",
                    found.space,
                    str(near.ratio_training),
                    f"{near.ratio_hold_out} (hold-out)",
                    "",
                    "",
                ),
                (
                    "membership inference, AUC",
                    found.space,
                    str(attack.auc),
                    "0.5",
                    limit,
                    _word(attack.passed),
                ),
            ]
        copies = self.copies
        rows += [
            (
                "correlation with closest training record (median, 95 %, largest)",
                "signal",
                str(copies.generated),
                "" if copies.hold_out is None else f"{copies.hold_out} (hold-out)",
                "",
                "",
            ),
            (
                f"suspected copies (correlation above {copies.threshold:.3f})",
                "signal",
                f"{len(copies.suspected)} of {copies.generated_records}",
                "0",
                f"at most {ALLOWED_COPIES}",
                _word(copies.passed),
            ),
        ]
        return rows

    def __str__(self) -> str:
        sentences = [verdict.sentence for verdict in self.verdicts()]
        return "\n".join(["  ".join(row) for row in self.rows()] + sentences)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "verdicts": [
                {"passed": verdict.passed, "sentence": verdict.sentence}
                for verdict in self.verdicts()
            ],
            **{found.space: found.to_dict() for found in self.spaces},
            "copies": self.copies.to_dict(),
            "notes": list(self.notes),
            "training_records": self.training_records,
            "hold_out_records": self.hold_out_records,
        }

    def _on_copies(self) -> str:
        copies = self.copies
        strangers = (
            ""
            if copies.hold_out is None
            else f"; hold-out records reach {copies.hold_out.largest:.3f}"
        )
        found = (
            f"No generated record of {copies.generated_records} is a suspected copy"
            if not copies.suspected
            else f"{len(copies.suspected)} of {copies.generated_records} generated records are "
            f"suspected copies of {copies.copied_patients} training patients"
        )
        return (
            f"{found}: largest correlation with a training record within "
            f"{copies.largest_lag_s:g} s {copies.generated.largest:.3f}{strangers}; a copy is "
            f"above {copies.threshold:.3f}, and {ALLOWED_COPIES} are allowed."
        )


def measure_privacy(
    training: PrivacySide,
    hold_out: PrivacySide,
    generated: PrivacySide,
    *,
    sampling_rate_hz: float,
    largest_lag_s: float = LARGEST_LAG_S,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
    subsamples: int = SUBSAMPLES,
    gallery: int = GALLERY,
    workers: int = 1,
    progress: PairsDone | None = None,
) -> PrivacyResult:
    """Copies, closeness and membership inference of one generated set, in both spaces.

    training: the private records that the generator or its guidance learned from; hold_out: of
    other patients of the same hospital, with the same mix of diagnoses; generated: the set that is
    judged, whose patients are not looked at. The embedding space is left out unless all three have
    features. workers: threads; the result does not depend on them. Deterministic for a seed.

    Raises:
        CorpusError: sides that differ in leads, samples or features, a patient on both sides,
            fewer than 5 patients on one.
        ConfigError: a rate below 50 Hz, a lag longer than half of a record, fewer than 1 worker,
            subsample or pair, fewer than 2 resamples.
    """
    for what, number in (
        ("worker", workers),
        ("subsample", subsamples),
        ("pair in the gallery", gallery),
    ):
        if number < 1:
            raise ConfigError(f"expected at least 1 {what}, got {number}")
    sides = (training, hold_out, generated)
    embedded = [side.features for side in sides if side.features is not None]
    _check_alike(sides)
    members, strangers = _patients(training), _patients(hold_out)
    _check_patients(training, hold_out, members, strangers)

    waves = [filtered_waves(side.signals_mv, sampling_rate_hz) for side in sides]
    lags = common_lags(waves[0], largest_lag_s)
    steps = ((2, 0), (2, 1), (1, 0))
    tally = Tally(sum(len(sides[i]) * len(sides[j]) for i, j in steps), progress)
    to_training, to_hold_out, real = (
        correlations_over_lags(waves[i], waves[j], lags, workers, tally) for i, j in steps
    )

    def pairs(
        numbers: IntArray, closest: IntArray, distances: Float32Array
    ) -> tuple[ClosePair, ...]:
        return tuple(
            _close_pair(generated, training, waves[2], waves[0], lags, record, other, distance)
            for record, other, distance in zip(
                numbers.tolist(), closest.tolist(), distances.tolist(), strict=True
            )
        )

    distances: dict[Space, tuple[Float32Array, Float32Array]] = {
        "signal": (correlation_distance(to_training), correlation_distance(to_hold_out))
    }
    if len(embedded) == len(sides):
        known, unknown, new = embedded
        distances["embedding"] = (_euclidean(new, known), _euclidean(new, unknown))
    spaces = []
    for space, (near, far) in distances.items():
        chosen = _gallery(near, gallery)
        spaces.append(
            SpacePrivacy(
                space=space,
                closeness=measure_closeness(
                    near,
                    far,
                    members,
                    strangers,
                    seed=seed,
                    resamples=resamples,
                    subsamples=subsamples,
                ),
                membership=infer_membership(
                    near.min(axis=0),
                    far.min(axis=0),
                    members,
                    strangers,
                    seed=seed,
                    resamples=resamples,
                ),
                closest_pairs=pairs(chosen[0], chosen[1], near[chosen]),
            )
        )

    closest, closest_real = to_training.max(axis=1), real.max(axis=1)
    strangers_only = closest_real[closest_real <= SAME_RECORDING]
    threshold = copy_threshold(closest_real)
    suspected = np.flatnonzero(closest > threshold)
    originals = to_training[suspected].argmax(axis=1)
    copies = CopySearch(
        threshold=threshold,
        largest_lag_s=largest_lag_s,
        generated=ClosestCorrelation.of(closest),
        hold_out=ClosestCorrelation.of(strangers_only) if len(strangers_only) else None,
        generated_records=len(generated),
        suspected=pairs(suspected, originals, distances["signal"][0][suspected, originals]),
        copied_patients=len(set(members[originals].tolist())),
    )
    return PrivacyResult(
        spaces=tuple(spaces),
        copies=copies,
        notes=_notes(training, hold_out, real, spaces),
        training_records=len(training),
        hold_out_records=len(hold_out),
    )


def correlation_distance(correlation: npt.ArrayLike) -> Float32Array:
    """sqrt(2 - 2 correlation): the Euclidean distance of the overlaps, each scaled to length 1."""
    squared = 2 - 2 * np.asarray(correlation, dtype=np.float32)
    return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)


def copy_threshold(real: npt.ArrayLike) -> float:
    """Correlation above which a generated record is a suspected copy of a training record.

    real (n,): correlation of hold-out records with the training record most like them. The larger
    of `COPY_CORRELATION` and 1 - `COPY_MARGIN` (1 - largest of `real`), without the records that
    are above `SAME_RECORDING`.
    """
    correlations = np.asarray(real, dtype=np.float64)
    strangers = correlations[correlations <= SAME_RECORDING]
    largest = float(strangers.max(initial=-1.0))
    return max(COPY_CORRELATION, 1 - COPY_MARGIN * (1 - largest))


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
        _Side.of(distances, patients)
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
        share=_at_least(share, _share_of_few(counts[0], counts[1])),
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


def _at_least(found: Estimate, other: Estimate) -> Estimate:
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
        side = _Side.of(np.asarray(distances, dtype=np.float64)[None], patients)
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
class _Side:
    """Distances (n, G), records sorted by patient; `starts` has each patient's first row."""

    distances: npt.NDArray[np.floating]
    starts: IntArray

    @classmethod
    def of(cls, distances: npt.ArrayLike, patients: npt.ArrayLike | None) -> "_Side":
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
        _require_patients(len(starts))
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


def _close_pair(
    generated: PrivacySide,
    training: PrivacySide,
    generated_waves: Waves,
    training_waves: Waves,
    lags: IntArray,
    number: int,
    closest: int,
    distance: float,
) -> ClosePair:
    """Names, lag and correlation of a pair."""
    mine = Spectra.of(generated_waves.values[number : number + 1], lags, later=False)
    other = Spectra.of(training_waves.values[closest : closest + 1], lags, later=True)
    by_lag = correlation_by_lag(mine, other, lags)[:, 0, 0]
    best = int(by_lag.argmax())
    return ClosePair(
        generated=number,
        generated_name=generated.name(number),
        training=closest,
        training_name=training.name(closest),
        distance=distance,
        correlation=float(np.clip(by_lag[best], -1, 1)),
        lag_s=float(-lags[best] / generated_waves.rate_hz),
    )


def _gallery(distances: Float32Array, most: int) -> tuple[IntArray, IntArray]:
    """Closest pairs of distances (G, n), each generated and each training record at most once."""
    closest = distances.argmin(axis=1)
    order = np.argsort(distances.min(axis=1), kind="stable")
    first = np.sort(np.unique(closest[order], return_index=True)[1])
    chosen = order[first[:most]]
    return chosen, closest[chosen]


def _euclidean(first: npt.ArrayLike, second: npt.ArrayLike) -> Float32Array:
    """Distances of features (n, F) and (m, F): (n, m) float32."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    distances = np.empty((len(a), len(b)), dtype=np.float32)
    for rows in parts_of(len(a), FILTERED_AT_ONCE):
        distances[rows] = cdist(a[rows], b)
    return distances


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


def _patients(side: PrivacySide) -> npt.NDArray[np.generic]:
    if side.patients is None:
        return np.arange(len(side))
    return np.asarray(side.patients).astype(str)


def _check_alike(sides: Sequence[PrivacySide]) -> None:
    """One number of leads, of samples and of features."""
    shapes = {np.asarray(side.signals_mv).shape[1:] for side in sides}
    if len(shapes) > 1:
        raise CorpusError(
            f"expected signals of one number of leads and samples, got {sorted(shapes)}; bring all "
            "sides to one rate and length"
        )
    features = [side.features for side in sides if side.features is not None]
    widths = {np.asarray(values).shape[1] for values in features}
    if len(widths) > 1 or len(features) not in (0, len(sides)):
        raise CorpusError(
            f"expected features of one embedding for all sides or for none, got "
            f"{len(features)} sides with {sorted(widths)}; embed them all alike"
        )


def _check_patients(
    training: PrivacySide,
    hold_out: PrivacySide,
    members: npt.NDArray[np.generic],
    strangers: npt.NDArray[np.generic],
) -> None:
    for patients in (members, strangers):
        _require_patients(len(np.unique(patients)))
    if training.patients is None or hold_out.patients is None:
        return
    if shared := sorted(set(members) & set(strangers)):
        raise CorpusError(
            f"{len(shared)} patients are in training and in hold-out, such as {shared[0]}; the "
            "generator has seen them, so leave their records out of the hold-out"
        )


def _require_patients(count: int) -> None:
    if count < FEWEST_PATIENTS:
        raise CorpusError(
            f"expected at least {FEWEST_PATIENTS} patients a side, got {count}; hold out more"
        )


def _notes(
    training: PrivacySide,
    hold_out: PrivacySide,
    real: Float32Array,
    spaces: Sequence[SpacePrivacy],
) -> tuple[str, ...]:
    """What makes the comparison itself doubtful, in sentences."""
    notes = []
    twice = np.flatnonzero(real.max(axis=1) > SAME_RECORDING)
    if len(twice):
        first = int(twice[0])
        original = training.name(int(real[first].argmax()))
        notes.append(
            f"{len(twice)} hold-out records are training records under another patient's name, "
            f"such as {hold_out.name(first)}, which is {original}; remove them and measure again."
        )
    for found in spaces:
        if found.closeness.share.high < 0.5 - TOLERANCE:
            notes.append(
                f"In {found.space} space the generated set is closer to the hold-out than to the "
                "training patients; check that the sides are not swapped and have the same mix of "
                "diagnoses."
            )
    return tuple(notes)


def _on_closeness(found: SpacePrivacy) -> str:
    near = found.closeness
    return (
        f"In {found.space} space {near.share} of the generated records are closer to training than "
        f"to hold-out, reckoned to equal numbers of patients ({_limit(near.passed)}); their "
        f"nearest-neighbour distance ratio is {near.ratio_training} against training and "
        f"{near.ratio_hold_out} against hold-out."
    )


def _on_membership(found: SpacePrivacy) -> str:
    attack = found.membership
    return (
        f"In {found.space} space an attacker tells the {attack.members} training from the "
        f"{attack.non_members} hold-out patients with an AUC of {attack.auc} "
        f"({_limit(attack.passed)}); so many patients fail an AUC of {attack.detectable:.2f} or "
        f"more with a chance of {POWER:g}."
    )


def _limit(passed: bool) -> str:
    return f"{_word(passed)}: the lower end may be up to {0.5 + TOLERANCE:.2f}"


def _word(passed: bool) -> str:
    return "pass" if passed else "FAIL"
