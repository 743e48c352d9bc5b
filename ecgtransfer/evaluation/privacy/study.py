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

#: Closest pairs kept for the report.
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
    check_alike(sides)
    members, strangers = patients_of(training), patients_of(hold_out)
    check_patients(training, hold_out, members, strangers)

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


@dataclass(frozen=True)
class PrivacySettings:
    """Settings of the privacy question.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        classifier: of the source's records, whose features are one of the two spaces: it has seen
            neither side of the target, so that knowing one side cannot look like a leak.
        seed: of everything that is drawn.
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
    """Look for the target's training patients in each synthetic set.

    The target's test patients are those whom no generator has seen. The features are those of a
    classifier of the source's records, which is trained in `folder`.

    Raises:
        CorpusError: fewer than five patients on a side.
    """
    if cohorts.source is None:
        raise ConfigError(
            "expected records of the source, whose classifier gives the features, got none; give "
            "some"
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
