"""Measure how close a generated set is to the real one, compared with real against real.

An absolute distance says little: with fewer records than features, the Frechet distance of two
samples of one distribution is far from 0. So each measure is computed three times with the same
number of records: generated against real, one half of the real patients against the other, and the
source's real records against the target's (`measure_fidelity`, `compare_with_halves`).

With few records nearly any set would pass, because distances of features are then dominated by
chance. So the rules are also applied to negative controls with the same number of records: real
ECGs altered in physiologically impossible ways (`negative_controls`). If a control keeps all rules,
a set that keeps them may be no better than the control, and the verdict is open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import in_patient_order
from ecgtransfer.defaults import LARGEST_COHORT
from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.answer import StepsDone, count_parts
from ecgtransfer.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    train_classifier,
)
from ecgtransfer.evaluation.cohorts import (
    Cohort,
    Cohorts,
    match_class_mix,
    require_at_least,
)
from ecgtransfer.evaluation.distances import (
    checked_pair,
)
from ecgtransfer.evaluation.embedding import FeatureScale
from ecgtransfer.evaluation.fidelity.feature_map import FeatureMap, projection
from ecgtransfer.evaluation.fidelity.records import (
    class_members,
    measured_records,
    thinned_indices,
)
from ecgtransfer.evaluation.fidelity.repeats import Ticker, compare_sets
from ecgtransfer.evaluation.fidelity.result import (
    FidelityEvaluation,
    FidelityResult,
)
from ecgtransfer.evaluation.fidelity.two_sample import (
    KINDS,
)
from ecgtransfer.evaluation.halves import (
    HALVES,
    patient_indices,
)
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.statistics import (
    FloatArray,
    streams,
)

#: Fewest records per side, so that each has 5 neighbours.
FEWEST_COMPARED = 6

#: Names of the negative controls, for use in sentences.
BACKWARDS, CHEST_OF_ANOTHER = "ECGs played backwards", "V1 to V6 of another patient"

#: Index of the first chest lead.
FIRST_CHEST_LEAD = INDEPENDENT_LEADS.index("V1")


def negative_controls(
    signals_mv: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.floating]]:
    """Alter real records in physiologically impossible ways.

    "ECGs played backwards" have the waves in the wrong order. "V1 to V6 of another patient" have
    limb and chest leads with different beats. Both preserve the power spectrum and the amplitudes
    of each lead.

    Args:
        signals_mv: independent leads (n, 8, T) of the real records.
        patients: patients (n,); None if every record is its own patient.
        seed: seed of the exchange of chest leads.

    Returns:
        Altered signals (n, 8, T) by the name of the control.

    Raises:
        CorpusError: the signals have another shape, or there are fewer than 2 patients.
    """
    signals = np.asarray(signals_mv)
    if signals.ndim != 3 or signals.shape[1] != len(INDEPENDENT_LEADS):
        raise CorpusError(
            f"expected signals (records, {len(INDEPENDENT_LEADS)} independent leads, samples), got "
            f"shape {signals.shape}; select them with independent_leads"
        )
    names = patient_indices(patients, len(signals))
    if len(np.unique(names)) < 2:
        raise CorpusError(
            "expected records of at least 2 patients, whose leads can be exchanged, got 1; give "
            "more records"
        )
    order = in_patient_order(names, streams.generator(seed, streams.NEGATIVE_CONTROLS))
    other = np.empty(len(signals), dtype=np.intp)
    # Records are sorted by patient and shifted by the largest number of records of a patient, so
    # each gets the leads of another patient (unless one has more than half of all records).
    _, of_patient = np.unique(names, return_counts=True)
    other[order] = np.roll(order, -int(of_patient.max()))
    exchanged = signals.copy()
    exchanged[:, FIRST_CHEST_LEAD:] = signals[other, FIRST_CHEST_LEAD:]
    return {BACKWARDS: signals[..., ::-1].copy(), CHEST_OF_ANOTHER: exchanged}


def measure_fidelity(
    real_features: npt.ArrayLike,
    generated_features: npt.ArrayLike,
    real_mv: npt.ArrayLike,
    generated_mv: npt.ArrayLike,
    sampling_rate_hz: float,
    patients: npt.ArrayLike | None = None,
    *,
    source_features: npt.ArrayLike | None = None,
    source_mv: npt.ArrayLike | None = None,
    generated_patients: npt.ArrayLike | None = None,
    source_patients: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    generated_labels: npt.ArrayLike | None = None,
    source_labels: npt.ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    controls: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    k: int = 5,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
    progress: StepsDone | None = None,
) -> FidelityResult:
    """Compare a generated set with a real set by all measures, overall and per class.

    Both sets should have one class mix, because all measures but the two-sample test respond to a
    difference of class mix; that test matches classes if there are labels. Of a set with more than
    `records.LARGEST_SET` records, this many are drawn at random.

    Args:
        real_features: features (n, F).
        generated_features: features (m, F) of the same embedding.
        real_mv: signals (n, leads, T) in millivolts, preferably the eight independent leads.
        generated_mv: signals (m, leads, T) in millivolts.
        sampling_rate_hz: sampling rate of all signals.
        patients: patients (n,); None if every record is its own patient.
        source_features: features (l, F) of source records, or None; used if l is at least
            `records`.
        source_mv: signals (l, leads, T) of the source records.
        generated_patients: patients (m,), as `patients`.
        source_patients: patients (l,), as `patients`.
        labels: labels (n, K). With labels, each class is measured for which both sets allow 20
            records per side.
        generated_labels: labels (m, K).
        source_labels: labels (l, K).
        label_names: names of the K labels.
        controls: features (n, F) and signals (n, leads, T) of the `negative_controls` of the real
            records, by name. Without them a pass is weaker evidence.
        k: number of neighbours.
        records: records per side; None for half of the smaller set.
        repeats: number of repeats of `compare_with_halves`.
        seed: seed of all random draws.
        progress: called with (repeats done, repeats in total).

    Raises:
        CorpusError: numbers of features, signals, patients, labels or controls differ; labels or
            source records are incomplete; or a set is one that `compare_with_halves`, `prdc`,
            `median_distance` or `band_power_error` refuses.
        ConfigError: a setting is one that these functions refuse.
    """
    if (source_features is None) != (source_mv is None):
        raise CorpusError(
            "expected both features and signals of the source or neither, got one; add the other"
        )
    if (labels is None) != (generated_labels is None) or (labels is None) != (label_names is None):
        raise CorpusError(
            "expected all of labels, generated_labels and label_names or none of them, got some; "
            "add the others"
        )
    checked_pair(real_features, generated_features)
    given = [
        (real_features, real_mv, patients, labels),
        (generated_features, generated_mv, generated_patients, generated_labels),
    ]
    if source_features is not None and source_mv is not None:
        checked_pair(real_features, source_features)
        given.append(
            (source_features, source_mv, source_patients, None if labels is None else source_labels)
        )
    rng = streams.generator(seed, streams.FIDELITY_RECORDS)
    kept = [thinned_indices(len(np.asarray(parts[0])), rng) for parts in given]
    sides = [
        measured_records(*parts, sampling_rate_hz, index)
        for parts, index in zip(given, kept, strict=True)
    ]
    altered = {}
    for name, (features, signals_mv) in (controls or {}).items():
        if len(np.asarray(features)) != len(np.asarray(real_features)):
            raise CorpusError(
                f"expected {len(np.asarray(real_features))} records of the control {name!r}, one "
                f"for each real record, got {len(np.asarray(features))}; use negative_controls"
            )
        checked_pair(real_features, features)
        altered[name] = measured_records(
            features, signals_mv, None, None, sampling_rate_hz, kept[0]
        )
    sides_of_all = [*sides, *altered.values()]
    if len({side.spectra.shape[1] for side in sides_of_all}) > 1:
        raise CorpusError(
            "expected signals with the same leads in every set, got different numbers; select the "
            "same leads of all"
        )
    real, generated = sides[:2]
    source = sides[2] if len(sides) > 2 else None
    classes, left_out = class_members(real, generated, source, label_names)
    tick = Ticker(progress, repeats * (1 + len(classes)))
    whole, of_controls = compare_sets(
        real, generated, source, altered, KINDS, k, records, repeats, seed, tick
    )
    per_class = {
        name: compare_sets(*members, {}, ("linear",), k, None, repeats, seed, tick)[0]
        for name, members in classes.items()
    }
    result = FidelityResult(**vars(whole), per_class=per_class, controls=of_controls)
    return replace(result, not_measured=whole.not_measured | left_out)


@dataclass(frozen=True)
class FidelitySettings:
    """Settings of the fidelity evaluation.

    Attributes:
        methods: transfer methods to evaluate; empty for all that have a set of this name.
        name: name of the synthetic sets.
        classifier: settings of the classifier whose features are compared; it is trained on the
            target's training records.
        seed: seed of all random draws.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0


def evaluate_fidelity(
    settings: FidelitySettings,
    cohorts: Cohorts,
    folder: Path,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> FidelityEvaluation:
    """Compare each synthetic set with the target's test records.

    The measures use the features of a classifier trained on the target's training records, power
    spectra, and correlations between leads. They are also computed for two halves of the test
    records, for source records, and for negative controls made from the test records. Synthetic and
    source records are subsampled to the class mix of the test records.

    Args:
        settings: settings.
        cohorts: records to compare.
        folder: folder of the evaluation; the classifier is trained in it.
        workers: not used.
        progress: called with (repeats done, repeats in total).

    Raises:
        ConfigError: there are too few test records, or too few synthetic records of their classes.
    """
    rng = streams.generator(settings.seed, streams.FIDELITY_SIDES)
    cohort = cohorts.test.subsample(LARGEST_COHORT, rng)
    matching = [
        each.select(match_class_mix(each.own_labels, cohort.own_labels, rng))
        for each in (*cohorts.synthetic.values(), *([cohorts.source] if cohorts.source else []))
    ]
    compared = _records_per_side(cohort, dict(zip(cohorts.synthetic, matching, strict=False)))
    features = _Features.trained(settings, cohorts, folder / "embedding")
    test, *others = (_Embedded.of(each, features) for each in (cohort, *matching))
    sides = dict(zip(cohorts.synthetic, others, strict=False))
    source = others[-1] if cohorts.source else None
    controls = {
        name: (features(signals_mv), signals_mv)
        for name, signals_mv in negative_controls(
            test.records.signals_mv, test.records.patients, seed=settings.seed
        ).items()
    }
    parts = count_parts(progress, len(sides))
    return FidelityEvaluation(
        {
            method: measure_fidelity(
                test.features,
                side.features,
                test.records.signals_mv,
                side.records.signals_mv,
                cohorts.sampling_rate_hz,
                test.records.patients,
                source_features=source.features if source else None,
                source_mv=source.records.signals_mv if source else None,
                source_patients=source.records.patients if source else None,
                labels=test.records.labels,
                generated_labels=side.records.labels,
                source_labels=source.records.labels if source else None,
                label_names=cohorts.label_names,
                controls=controls,
                records=compared,
                seed=settings.seed,
                progress=part,
            )
            for (method, side), part in zip(sides.items(), parts, strict=True)
        },
        _feature_map(test, list(sides.values()), source, settings.seed),
    )


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of a classifier, standardised by those of its training records."""

    classifier: Classifier
    scale: FeatureScale

    @classmethod
    def trained(cls, settings: FidelitySettings, cohorts: Cohorts, folder: Path) -> "_Features":
        train = cohorts.train.load()
        classifier = train_classifier(
            train, cohorts.label_names, settings.classifier, folder, seed=settings.seed
        )
        return cls(classifier, FeatureScale.fitted(classifier.features(train.signals_mv)))

    def __call__(self, signals_mv: npt.NDArray[np.floating]) -> FloatArray:
        return self.scale(self.classifier.features(signals_mv))


@dataclass(frozen=True, eq=False)
class _Embedded:
    """Records and their features (n, F)."""

    records: LabelledRecords
    features: FloatArray

    @classmethod
    def of(cls, cohort: Cohort, features: _Features) -> "_Embedded":
        records = cohort.load()
        return cls(records, features(records.signals_mv))


def _records_per_side(test: Cohort, sides: Mapping[str, Cohort]) -> int:
    """Largest number of records per side that all comparisons can have.

    All must have the same number, because distances depend on it.
    """
    _, of_patient = np.unique(patient_indices(test.patients, len(test)), return_counts=True)
    half = (len(test) + 1 - int(of_patient.max())) // 2
    fewest = min(sides, key=lambda method: len(sides[method]))
    require_at_least(
        half, FEWEST_COMPARED, "records in half of the test records to measure fidelity"
    )
    require_at_least(
        len(sides[fewest]),
        FEWEST_COMPARED,
        f"records with the test records' diagnoses in the set of {fewest} to measure fidelity",
    )
    # A confidence interval needs twice as many generated records as are compared.
    return min(half, max(len(sides[fewest]) // 2, FEWEST_COMPARED))


def _feature_map(
    real: _Embedded, generated: Sequence[_Embedded], source: _Embedded | None, seed: int
) -> FeatureMap | None:
    """Map of all sets; None if a set has too few records."""
    sets = [each.features for each in (real, *generated, *([source] if source else []))]
    if min(map(len, sets)) < FEWEST_COMPARED:
        return None
    together = np.concatenate([each.features for each in generated])
    drawn = projection(real.features, together, source.features if source else None, seed=seed)
    return drawn.feature_map()
