"""Stages `evaluation-<name>`: what synthetic sets are worth on held-out target patients."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.evaluation import (
    ClassifierConfig,
    Comparison,
    FeatureScale,
    FidelityResult,
    LabelledRecords,
    compare_arms,
    compare_with_halves,
    measure_fidelity,
    train_classifier,
)
from ecgtransfer.pipeline.config import METHODS
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.synthetic import SET, known_method, synthetic_stage
from ecgtransfer.pipeline.target import Target, labels_in

#: Records of a side that fidelity compares at most; more change the third digit and cost memory.
LARGEST_SIDE = 4000
#: Fewest test records of which two halves can be held against each other by 5 neighbours.
FEWEST_TEST_RECORDS = 14
#: Fewest records a side that have 5 neighbours each.
FEWEST_COMPARED = 6


@dataclass(frozen=True)
class EvaluateSettings:
    """What `evaluate` is asked for.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        seeds: trainings of each arm of the utility study.
        classifier: shape and training of the downstream classifier.
        seed: of everything else that is drawn.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    seeds: int = 3
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"expected at least 1 training seed, got {self.seeds}")
        for method in self.methods:
            known_method(method)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to, as its card holds it.

    Attributes:
        verdicts: one sentence on the utility of each set.
        utility, fidelity: every number, fidelity by method.
        utility_rows, fidelity_rows: the same as tables, header first.
    """

    verdicts: list[str]
    utility: dict[str, Any]
    fidelity: dict[str, Any]
    utility_rows: list[list[str]]
    fidelity_rows: list[list[str]]


def evaluate(
    run: Run,
    source: Source,
    target: Target,
    settings: EvaluateSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure utility and fidelity of synthetic sets on the test records, or find it done.

    Utility: the classifier trained on the target's training records alone against the same with
    each synthetic set added. Fidelity: in the feature space of a classifier of the target's
    training records, beside two halves of the real test records and beside the source's records.

    Raises:
        ConfigError: too few test records, or too few synthetic ones of their classes.
        RunError: no such synthetic set, or other settings in place.
    """
    methods = settings.methods or _methods_with_a_set(run, settings.name)
    settings = replace(settings, methods=methods)
    cards = {method: run.stage(synthetic_stage(settings.name, method)).card for method in methods}
    stage = run.stage(f"evaluation-{settings.name}")
    asked = {
        "evaluate": settings,
        "synthetic": {method: card["results"]["fingerprint"] for method, card in cards.items()},
        "target": target.fingerprint,
    }
    if stage.begin(asked):
        return Evaluation(**stage.card["results"])
    if len(target.test) < FEWEST_TEST_RECORDS:
        raise ConfigError(
            f"expected at least {FEWEST_TEST_RECORDS} test records to measure anything, got "
            f"{len(target.test)}; train on fewer of the target's records"
        )
    names = source.label_space.names
    generated = {
        method: _generated(run, source, synthetic_stage(settings.name, method))
        for method in methods
    }
    real_train, real_test = _labelled(target, target.train), _labelled(target, target.test)
    rng = np.random.default_rng([settings.seed, 6])
    test_side = real_test.select(_some(rng, len(real_test)))
    chosen = {
        method: _like_test(rng, records.labels, test_side.labels)
        for method, records in generated.items()
    }
    compared = _records_a_side(test_side, chosen)
    utility = compare_arms(
        real_train,
        {f"target + {method}": records for method, records in generated.items()},
        real_test,
        names,
        settings.classifier,
        stage.folder / "utility",
        seeds=tuple(range(settings.seed, settings.seed + settings.seeds)),
        progress=progress,
    )
    embedding = train_classifier(
        real_train, names, settings.classifier, stage.folder / "embedding", seed=settings.seed
    )
    scale = FeatureScale.fitted(embedding.features(real_train.signals_mv))
    test_features = scale(embedding.features(test_side.signals_mv))
    fidelity = {}
    for method, records in generated.items():
        side = records.select(chosen[method])
        fidelity[method] = measure_fidelity(
            test_features,
            scale(embedding.features(side.signals_mv)),
            test_side.signals_mv,
            side.signals_mv,
            target.ecgset.sampling_rate_hz,
            test_side.patients,
            records=compared,
            seed=settings.seed,
        )
    source_set, source_train, _ = source.records()
    source_labels = labels_in(source.label_space, source_set)[source_train]
    matched = source_train[_like_test(rng, source_labels, test_side.labels)]
    recorded_source = None
    if len(matched) >= compared:
        recorded_source = compare_with_halves(
            test_features,
            scale(embedding.features(source_set.independent_mv(matched))),
            test_side.patients,
            records=compared,
            seed=settings.seed,
        )
    evaluation = Evaluation(
        verdicts=list(utility.verdicts()),
        utility=utility.to_dict(),
        fidelity={method: result.to_dict() for method, result in fidelity.items()}
        | {
            "recorded source": {
                "frechet_distance": None if recorded_source is None else recorded_source.to_dict()
            }
        },
        utility_rows=[list(row) for row in utility.rows()],
        fidelity_rows=_fidelity_rows(fidelity, recorded_source),
    )
    stage.finish(evaluation)
    return evaluation


def _methods_with_a_set(run: Run, name: str) -> tuple[str, ...]:
    """Methods, in the order of `METHODS`, whose synthetic set of that name is finished."""
    found = tuple(m for m in METHODS if run.stage(synthetic_stage(name, m)).is_done)
    if not found:
        raise RunError(
            f"expected a finished synthetic set {name!r} in {run.folder}, found none; run "
            f"'ecgtransfer generate' first"
        )
    return found


def _generated(run: Run, source: Source, stage: str) -> LabelledRecords:
    ecgset = ECGSet.open(run.folder / stage / SET)
    return LabelledRecords(ecgset.independent_mv(), labels_in(source.label_space, ecgset))


def _like_test(rng: np.random.Generator, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Record numbers whose classes are as frequent as the test records', without repeats.

    A set with as many records of each class differs from real patients by its class mix alone;
    a record is kept in proportion to how frequent its rarest label is among the test records.
    """
    share_here = np.maximum(labels.mean(axis=0), 1e-9)
    ratio = test.mean(axis=0) / share_here
    weight = np.where(labels > 0, ratio, np.inf).min(axis=1)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    largest = weight.max()
    kept = np.flatnonzero(rng.random(len(labels)) * largest < weight)
    return np.sort(rng.permutation(kept)[:LARGEST_SIDE])


def _records_a_side(test: LabelledRecords, chosen: dict[str, np.ndarray]) -> int:
    """As many as every comparison can have, for a distance depends on it."""
    patients = np.arange(len(test)) if test.patients is None else test.patients
    _, of_patient = np.unique(patients, return_counts=True)
    half = (len(test) + 1 - int(of_patient.max())) // 2
    fewest = min(chosen, key=lambda method: len(chosen[method]))
    if min(half, len(chosen[fewest])) < FEWEST_COMPARED:
        raise ConfigError(
            f"expected at least {FEWEST_COMPARED} records a side to measure fidelity, got {half} "
            f"in half of the test records and, with their diagnoses, {len(chosen[fewest])} in the "
            f"set of {fewest}; generate more of each class, or train on fewer of the target's "
            f"records"
        )
    return min(half, len(chosen[fewest]))


def _fidelity_rows(
    fidelity: dict[str, FidelityResult], recorded_source: Comparison | None
) -> list[list[str]]:
    """Measures down; methods, recorded source (where it is large enough) and reference across."""
    tables = {method: result.rows()[1:] for method, result in fidelity.items()}
    first = next(iter(tables.values()))
    rows = [["measure", *tables, "recorded source", "real against real"]]
    for number, (measure, _, reference) in enumerate(first):
        frechet = ""
        if recorded_source is not None and measure == "Frechet distance":
            frechet = str(recorded_source.score)
        scores = [table[number][1] for table in tables.values()]
        rows.append([measure, *scores, frechet, reference])
    return rows


def _labelled(target: Target, numbers: np.ndarray) -> LabelledRecords:
    patients = target.ecgset.records.patient.astype(str).to_numpy()
    return LabelledRecords(
        target.ecgset.independent_mv(numbers), target.labels[numbers], patients[numbers]
    )


def _some(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.sort(rng.permutation(n)[:LARGEST_SIDE])
