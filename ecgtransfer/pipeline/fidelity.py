"""Stages `fidelity-<name>`: do synthetic records look like the target's?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ecgtransfer.defaults import LARGEST_SIDE
from ecgtransfer.drawing import Table
from ecgtransfer.evaluation import (
    Classifier,
    ClassifierConfig,
    FeatureScale,
    LabelledRecords,
    measure_fidelity,
    negative_controls,
    projection,
    train_classifier,
)
from ecgtransfer.pipeline.answers import (
    Answer,
    asked,
    begin_answer,
    by_method,
    in_the_mix_of,
    labelled,
    labelled_source,
    labelled_synthetic,
    question_stage,
    refuse_few,
    some,
    synthetic_sets,
    told_of_stand_ins,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import Target
from ecgtransfer.statistics import (
    FloatArray,
    streams,
)

#: Fewest records a side that have 5 neighbours each.
FEWEST_COMPARED = 6


@dataclass(frozen=True)
class FidelitySettings:
    """What the fidelity of synthetic sets is asked with.

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
    run: Run,
    source: Source,
    target: Target,
    settings: FidelitySettings,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Hold each set against the target's test records, or find it done.

    In the feature space of a classifier of the target's training records, in spectra and between
    leads; beside two halves of the test records, the source's records, all in the class mix of the
    test records, and negative controls made from them.

    Raises:
        ConfigError: too few test records, or too few synthetic ones of their classes.
        RunError: no such synthetic set, or other settings in place.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    settings = replace(settings, methods=sets.methods)
    stage = question_stage(run, "fidelity", settings.name)
    if held := begin_answer(stage, "fidelity", asked(settings, sets, target)):
        return held
    rng = streams.generator(settings.seed, streams.FIDELITY_SIDES)
    test = labelled(target.ecgset, target.labels, some(target.test, LARGEST_SIDE, rng))
    sides = {}
    for method in sets.methods:
        records = labelled_synthetic(target.label_space, sets.open(method))
        sides[method] = records.select(in_the_mix_of(records.labels, test.labels, rng))
    of_source = labelled_source(run, source, target)
    of_source = of_source.select(in_the_mix_of(of_source.labels, test.labels, rng))
    compared = _records_a_side(test, sides)
    names = target.label_space.names
    train = labelled(target.ecgset, target.labels, target.train)
    classifier = train_classifier(
        train, names, settings.classifier, stage.folder / "embedding", seed=settings.seed
    )
    features = _Features(classifier, train)
    altered = {
        name: (features(replace(test, signals_mv=signals_mv)), signals_mv)
        for name, signals_mv in negative_controls(
            test.signals_mv, test.patients, seed=settings.seed
        ).items()
    }
    verdicts, tests, tables, numbers = [], [], [], {}
    done, total = 0, 0

    def counted(now: int, of: int) -> None:
        nonlocal total
        total = of
        if progress is not None:
            progress(done * of + now, len(sides) * of)

    for method, side in sides.items():
        result = measure_fidelity(
            features(test),
            features(side),
            test.signals_mv,
            side.signals_mv,
            target.ecgset.sampling_rate_hz,
            test.patients,
            source_features=features(of_source),
            source_mv=of_source.signals_mv,
            source_patients=of_source.patients,
            labels=test.labels,
            generated_labels=side.labels,
            source_labels=of_source.labels,
            label_names=names,
            controls=altered,
            records=compared,
            seed=settings.seed,
            progress=counted,
        )
        done += 1
        whole, *others = (by_method(method, verdict) for verdict in result.verdicts())
        verdicts.append(whole)
        tests += others
        tables.append(Table.from_rows(f"Distances, {method}", result.rows()))
        tables.append(Table.from_rows(f"Negative controls, {method}", result.control_rows()))
        tables.append(Table.from_rows(f"By class, {method}", result.per_class_rows()))
        numbers[method] = result.to_dict()
    picture = _picture(
        features(test), [features(side) for side in sides.values()], features(of_source), settings
    )
    tests += told_of_stand_ins(source)
    answer = Answer(
        "fidelity", tuple(verdicts), tuple(tests), tuple(tables), numbers | {"projection": picture}
    )
    stage.finish(answer.to_card())
    return answer


def _picture(
    real: FloatArray,
    generated: Sequence[FloatArray],
    source: FloatArray,
    settings: FidelitySettings,
) -> dict[str, object] | None:
    """A map of all sets; None where there are too few records for one."""
    if min(len(real), len(source), *map(len, generated)) < FEWEST_COMPARED:
        return None
    return projection(real, np.concatenate(generated), source, seed=settings.seed).to_dict()


@dataclass(frozen=True)
class _Features:
    """Features of records in the standard units of a classifier's training records."""

    classifier: Classifier
    train: LabelledRecords

    def __post_init__(self) -> None:
        known = self.classifier.features(self.train.signals_mv)
        object.__setattr__(self, "_scale", FeatureScale.fitted(known))

    def __call__(self, records: LabelledRecords) -> FloatArray:
        scale: FeatureScale = self._scale  # type: ignore[attr-defined]
        return scale(self.classifier.features(records.signals_mv))


def _records_a_side(test: LabelledRecords, sides: dict[str, LabelledRecords]) -> int:
    """As many as every comparison can have, for a distance depends on it."""
    patients = np.arange(len(test)) if test.patients is None else test.patients
    _, of_patient = np.unique(patients, return_counts=True)
    half = (len(test) + 1 - int(of_patient.max())) // 2
    fewest = min(sides, key=lambda method: len(sides[method]))
    refuse_few(half, FEWEST_COMPARED, "records in half of the test records to measure fidelity")
    refuse_few(
        len(sides[fewest]),
        FEWEST_COMPARED,
        f"records with the test records' diagnoses in the set of {fewest} to measure fidelity",
    )
    # Twice as many as are compared make a confidence interval; of fewer there is a spread.
    return min(half, max(len(sides[fewest]) // 2, FEWEST_COMPARED))
