"""Test whether a generated set reveals the patients on which its generator was trained.

Training records are compared with hold-out records of other patients of the same hospital. A
generator that has learned the hospital, but not its patients, is as close to the hold-out as to the
training records. Every test looks for a difference between the two sides. No test looks for small
distances as such, because ECGs of different patients can be very similar.

Intervals account for the random choice of patients. A few patients are closest to most generated
records, and in another sample of the hospital these would be other patients; more generated records
do not reduce this variance. So patients are subsampled and resampled, not records. The two sides
are resampled separately, because their numbers of patients are fixed by the split.

There are two spaces. The signal space (`correlations_over_lags`) finds copied recordings. The
features of a classifier find similarity that remains if beats are shifted or changed. That
classifier must not be trained on either side: otherwise its features could distinguish training
from hold-out records whatever the generator did.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from ecgtransfer.defaults import LARGEST_COHORT
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.answer import StepsDone, count_parts
from ecgtransfer.evaluation.classifier import ClassifierConfig, train_classifier
from ecgtransfer.evaluation.cohorts import Cohort, Cohorts
from ecgtransfer.evaluation.embedding import FeatureScale
from ecgtransfer.evaluation.privacy.closeness import SUBSAMPLES, infer_membership, measure_closeness
from ecgtransfer.evaluation.privacy.lag_correlation import (
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
from ecgtransfer.evaluation.privacy.result import (
    TOLERANCE,
    ClosePair,
    ClosestCorrelation,
    CopySearch,
    PrivacyEvaluation,
    PrivacyResult,
    Space,
    SpacePrivacy,
)
from ecgtransfer.evaluation.privacy.sides import (
    PrivacySide,
    check_alike,
    check_patients,
    patients_of,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    streams,
)

#: Largest shift in seconds at which copies are searched. With larger shifts the overlap is shorter
#: and correlations of different patients are higher: the largest of 2.25 million pairs of PTB-XL
#: patients is 0.90 within 2 s and 0.95 within 5 s.
LARGEST_LAG_S = 2.0

#: Smallest correlation of a suspected copy. A copy with white noise of 50 microvolts has 0.99
#: (median of 106 ICBEB records; 0.975 at the fifth percentile); different PTB-XL patients have at
#: most 0.90 (see `LARGEST_LAG_S`).
COPY_CORRELATION = 0.95

#: The distance 1 - correlation of a suspected copy is also at most this share of the smallest
#: distance between a hold-out and a training record: if real patients are very similar, similarity
#: is weaker evidence.
COPY_MARGIN = 0.5

#: Two records of different real patients with a larger correlation are one recording under two
#: names, an error of the table. They are not used for the threshold.
SAME_RECORDING = 0.99

#: Number of closest pairs that the result keeps for the report.
GALLERY = 12


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
    """Search copies in one generated set, and measure closeness and membership inference.

    Args:
        training: private records on which the generator or its guidance was trained.
        hold_out: records of other patients of the same hospital, with the same class mix.
        generated: the generated set; its patients are ignored.
        sampling_rate_hz: sampling rate of all signals.
        largest_lag_s: largest shift at which copies are searched.
        seed: seed of all random draws.
        resamples: bootstrap resamples.
        subsamples: subsamples of `measure_closeness`.
        gallery: number of closest pairs in the result.
        workers: number of threads; the result does not depend on it.
        progress: called with (pairs compared, pairs in total).

    Returns:
        The result in signal space, and in embedding space if all three sides have features.

    Raises:
        CorpusError: the sides differ in leads, samples or features, a patient is on both sides, or
            a side has fewer than 5 patients.
        ConfigError: the sampling rate is below 50 Hz; the lag is longer than half of a record;
            there is fewer than 1 worker, subsample or pair; or there are fewer than 2 resamples.
    """
    for what, count in (
        ("worker", workers),
        ("subsample", subsamples),
        ("pair in the gallery", gallery),
    ):
        if count < 1:
            raise ConfigError(f"expected at least 1 {what}, got {count}; raise the number")
    sides = (training, hold_out, generated)
    embedded = [side.features for side in sides if side.features is not None]
    check_alike(sides)
    members, non_members = patients_of(training), patients_of(hold_out)
    check_patients(training, hold_out, members, non_members)

    waves = [filtered_waves(side.signals_mv, sampling_rate_hz) for side in sides]
    lags = common_lags(waves[0], largest_lag_s)
    steps = ((2, 0), (2, 1), (1, 0))
    tally = Tally(sum(len(sides[i]) * len(sides[j]) for i, j in steps), progress)
    to_training, to_hold_out, real = (
        correlations_over_lags(waves[i], waves[j], lags, workers, tally) for i, j in steps
    )

    def pairs(
        records: IntArray, closest: IntArray, distances: Float32Array
    ) -> tuple[ClosePair, ...]:
        return tuple(
            _close_pair(generated, training, waves[2], waves[0], lags, record, other, distance)
            for record, other, distance in zip(
                records.tolist(), closest.tolist(), distances.tolist(), strict=True
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
                    non_members,
                    seed=seed,
                    resamples=resamples,
                    subsamples=subsamples,
                ),
                membership=infer_membership(
                    near.min(axis=0),
                    far.min(axis=0),
                    members,
                    non_members,
                    seed=seed,
                    resamples=resamples,
                ),
                closest_pairs=pairs(chosen[0], chosen[1], near[chosen]),
            )
        )

    closest, closest_real = to_training.max(axis=1), real.max(axis=1)
    different = closest_real[closest_real <= SAME_RECORDING]
    threshold = copy_threshold(closest_real)
    suspected = np.flatnonzero(closest > threshold)
    originals = to_training[suspected].argmax(axis=1)
    copies = CopySearch(
        threshold=threshold,
        largest_lag_s=largest_lag_s,
        generated=ClosestCorrelation.of(closest),
        hold_out=ClosestCorrelation.of(different) if len(different) else None,
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
    """sqrt(2 - 2 correlation): Euclidean distance of the overlaps, each normalised to length 1."""
    squared = 2 - 2 * np.asarray(correlation, dtype=np.float32)
    return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)


def copy_threshold(real: npt.ArrayLike) -> float:
    """Correlation above which a generated record is a suspected copy of a training record.

    It is the larger of `COPY_CORRELATION` and 1 - `COPY_MARGIN` (1 - largest of `real`), where
    records above `SAME_RECORDING` are ignored.

    Args:
        real: correlation of each hold-out record with its closest training record, (n,).
    """
    correlations = np.asarray(real, dtype=np.float64)
    different = correlations[correlations <= SAME_RECORDING]
    largest = float(different.max(initial=-1.0))
    return max(COPY_CORRELATION, 1 - COPY_MARGIN * (1 - largest))


def _close_pair(
    generated: PrivacySide,
    training: PrivacySide,
    generated_waves: Waves,
    training_waves: Waves,
    lags: IntArray,
    record: int,
    closest: int,
    distance: float,
) -> ClosePair:
    """Describe the pair of a generated and a training record."""
    mine = Spectra.of(generated_waves.values[record : record + 1], lags, later=False)
    other = Spectra.of(training_waves.values[closest : closest + 1], lags, later=True)
    by_lag = correlation_by_lag(mine, other, lags)[:, 0, 0]
    best = int(by_lag.argmax())
    return ClosePair(
        generated=record,
        generated_name=generated.name(record),
        training=closest,
        training_name=training.name(closest),
        distance=distance,
        correlation=float(np.clip(by_lag[best], -1, 1)),
        lag_s=float(-lags[best] / generated_waves.rate_hz),
    )


def _gallery(distances: Float32Array, most: int) -> tuple[IntArray, IntArray]:
    """Closest pairs by distances (G, n); each generated and training record occurs at most once."""
    closest = distances.argmin(axis=1)
    order = np.argsort(distances.min(axis=1), kind="stable")
    first = np.sort(np.unique(closest[order], return_index=True)[1])
    chosen = order[first[:most]]
    return chosen, closest[chosen]


def _euclidean(first: npt.ArrayLike, second: npt.ArrayLike) -> Float32Array:
    """Euclidean distances of features (n, F) and (m, F): (n, m), float32."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    distances = np.empty((len(a), len(b)), dtype=np.float32)
    for rows in parts_of(len(a), FILTERED_AT_ONCE):
        distances[rows] = cdist(a[rows], b)
    return distances


def _notes(
    training: PrivacySide,
    hold_out: PrivacySide,
    real: Float32Array,
    spaces: Sequence[SpacePrivacy],
) -> tuple[str, ...]:
    """Sentences on problems of the comparison itself."""
    notes = []
    twice = np.flatnonzero(real.max(axis=1) > SAME_RECORDING)
    if len(twice):
        first = int(twice[0])
        original = training.name(int(real[first].argmax()))
        notes.append(
            f"{len(twice)} hold-out records are training records under another patient's name, "
            f"such as {hold_out.name(first)}, which equals {original}; remove them and evaluate "
            "again."
        )
    for found in spaces:
        if found.closeness.share.high < 0.5 - TOLERANCE:
            notes.append(
                f"In {found.space} space the generated set is closer to the hold-out than to the "
                "training patients; check that the sides are not swapped and have the same mix of "
                "diagnoses."
            )
    return tuple(notes)


@dataclass(frozen=True)
class PrivacySettings:
    """Settings of the privacy evaluation.

    Attributes:
        methods: transfer methods to evaluate; empty for all that have a set of this name.
        name: name of the synthetic sets.
        classifier: settings of the classifier whose features are the embedding space. It is trained
            on source records, so its features know neither side of the target.
        seed: seed of all random draws.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0


def evaluate_privacy(
    settings: PrivacySettings,
    cohorts: Cohorts,
    folder: Path,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> PrivacyEvaluation:
    """Search for the target's training patients in each synthetic set.

    Args:
        settings: settings.
        cohorts: records to compare; the target's test patients are the hold-out, and the source
            records train the classifier of the features.
        folder: folder of the evaluation; the classifier is trained in it.
        workers: number of threads.
        progress: called with (pairs compared, pairs in total).

    Raises:
        CorpusError: a side has fewer than five patients.
        ConfigError: there are no source records.
    """
    if cohorts.source is None:
        raise ConfigError(
            "expected source records to train the classifier of the features, got none; give some"
        )
    rng = streams.generator(settings.seed, streams.PRIVACY_SIDES)
    known = cohorts.source.subsample(
        LARGEST_COHORT, streams.generator(settings.seed, streams.KNOWN_SOURCE)
    ).load()
    classifier = train_classifier(
        known, cohorts.label_names, settings.classifier, folder / "embedding", seed=settings.seed
    )
    scale = FeatureScale.fitted(classifier.features(known.signals_mv))

    def side(cohort: Cohort) -> PrivacySide:
        signals_mv = cohort.signals_mv()
        features = scale(classifier.features(signals_mv))
        return PrivacySide(signals_mv, features, cohort.patients, cohort.names)

    training = side(cohorts.train)
    hold_out = side(cohorts.test.subsample(LARGEST_COHORT, rng))
    parts = count_parts(progress, len(cohorts.synthetic))
    return PrivacyEvaluation(
        {
            method: measure_privacy(
                training,
                hold_out,
                side(cohort.subsample(LARGEST_COHORT, rng)),
                sampling_rate_hz=cohorts.sampling_rate_hz,
                seed=settings.seed,
                workers=workers,
                progress=part,
            )
            for (method, cohort), part in zip(cohorts.synthetic.items(), parts, strict=True)
        }
    )
