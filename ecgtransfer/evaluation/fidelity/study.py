"""Does a generated set look like the real one? Every measure beside real against real.

An absolute distance says little: with fewer records than feature dimensions the Frechet distance
of two samples of one law is far from 0. So each measure of `distances` and `two_sample` is read at
one number of records three times: generated against real, one half of the real patients against
the other, and the source's real records against the target's (`measure_fidelity`,
`compare_with_halves`).

Few records let nearly anything pass: the distances of a classifier's features are then mostly
chance. So the same rules are asked of negative controls, at the same number of records: real ECGs
altered in ways that no heart allows (`negative_controls`). Where one keeps all rules, a set that
keeps them too is not known to be any better, and the answer is open.
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

#: Fewest records a side that have 5 neighbours each.
FEWEST_COMPARED = 6

#: Names of the negative controls, as they stand in a sentence, and where the chest leads begin.
BACKWARDS, CHEST_OF_ANOTHER = "ECGs played backwards", "V1 to V6 of another patient"

FIRST_CHEST_LEAD = INDEPENDENT_LEADS.index("V1")


def negative_controls(
    signals_mv: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.floating]]:
    """Real records altered so that no heart could have made them, by name: (n, 8, T) each.

    signals_mv (n, 8, T) the independent leads, patients (n,) or none. "ECGs played backwards" have
    the waves in the wrong order; "V1 to V6 of another patient" have limb and chest leads that
    never beat together. Both keep each lead's spectrum and amplitudes. CorpusError for another
    shape or fewer than 2 patients.
    """
    signals = np.asarray(signals_mv)
    if signals.ndim != 3 or signals.shape[1] != len(INDEPENDENT_LEADS):
        raise CorpusError(
            f"expected signals (records, {len(INDEPENDENT_LEADS)} independent leads, samples), got "
            f"shape {signals.shape}"
        )
    names = patient_indices(patients, len(signals))
    if len(np.unique(names)) < 2:
        raise CorpusError("expected records of at least 2 patients, whose leads can be exchanged")
    order = in_patient_order(names, streams.generator(seed, streams.NEGATIVE_CONTROLS))
    other = np.empty(len(signals), dtype=np.intp)
    # Patient after patient, the record as many places on as one patient fills at most is another's
    # (unless one patient has more than half of all records).
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
    """All measures of this module for one generated set against one real set.

    Features (n, F) and (m, F) of one embedding, signals (n, leads, T) and (m, leads, T) of the same
    records in millivolts, best the eight independent leads; of the source too, which is measured
    where it has at least `records`. Patients and `records` as in `compare_with_halves`. Give sets
    of one class mix: all measures see a difference, the two-sample test alone matches classes
    itself, where labels are given.

    labels (n, K), generated_labels (m, K), label_names (K): with them the same is measured for the
    records of each class of which both sides allow 20 records a side; source_labels (l, K) add the
    source. controls: features (n, F) and signals (n, leads, T) of `negative_controls` of the real
    records, by name; without them a pass says less. Of more than 4,000 records a set as many are
    drawn at random. progress(done, total) counts repeats.

    Errors as in `compare_with_halves`, `prdc`, `median_distance` and `band_power_error`;
    CorpusError also where features, signals, patients, labels or controls differ in number, or
    labels or source come without what belongs to them.
    """
    if (source_features is None) != (source_mv is None):
        raise CorpusError("expected features and signals of the source or neither; add the others")
    if (labels is None) != (generated_labels is None) or (labels is None) != (label_names is None):
        raise CorpusError(
            "expected labels, generated_labels and label_names or none of them; add the others"
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
                f"of each real record, got {len(np.asarray(features))}"
            )
        checked_pair(real_features, features)
        altered[name] = measured_records(
            features, signals_mv, None, None, sampling_rate_hz, kept[0]
        )
    sides_of_all = [*sides, *altered.values()]
    if len({side.spectra.shape[1] for side in sides_of_all}) > 1:
        raise CorpusError("expected signals with the same leads in every set")
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
    """Settings of the fidelity question.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        classifier: of the target's training records, whose features are compared.
        seed: of everything that is drawn.
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

    In the feature space of a classifier of the target's training records, in spectra and between
    leads; beside two halves of the test records, the source's records, all in the class mix of the
    test records, and negative controls made from them. `workers` are not used.

    Raises:
        ConfigError: too few test records, or too few synthetic ones of their classes.
    """
    rng = streams.generator(settings.seed, streams.FIDELITY_SIDES)
    cohort = cohorts.test.subsample(LARGEST_COHORT, rng)
    in_its_mix = [
        each.select(match_class_mix(each.own_labels, cohort.own_labels, rng))
        for each in (*cohorts.synthetic.values(), *([cohorts.source] if cohorts.source else []))
    ]
    compared = _records_a_side(cohort, dict(zip(cohorts.synthetic, in_its_mix, strict=False)))
    features = _Features.trained(settings, cohorts, folder / "embedding")
    test, *others = (_Embedded.of(each, features) for each in (cohort, *in_its_mix))
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
    """Features of signals in the standard units of a classifier's training records."""

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


def _records_a_side(test: Cohort, sides: Mapping[str, Cohort]) -> int:
    """As many as every comparison can have, for a distance depends on it."""
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
    # Twice as many as are compared make a confidence interval; of fewer there is a spread.
    return min(half, max(len(sides[fewest]) // 2, FEWEST_COMPARED))


def _feature_map(
    real: _Embedded, generated: Sequence[_Embedded], source: _Embedded | None, seed: int
) -> FeatureMap | None:
    """A map of all sets; None where there are too few records for one."""
    sets = [each.features for each in (real, *generated, *([source] if source else []))]
    if min(map(len, sets)) < FEWEST_COMPARED:
        return None
    together = np.concatenate([each.features for each in generated])
    drawn = projection(real.features, together, source.features if source else None, seed=seed)
    return drawn.feature_map()
