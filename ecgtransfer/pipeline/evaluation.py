"""Stages `evaluation-<name>-<method>`: what a set is worth on held-out target patients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FeatureScale,
    LabelledRecords,
    compare_arms,
    compare_with_halves,
    measure_fidelity,
    train_classifier,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.synthetic import SET, only_method, synthetic_stage
from ecgtransfer.pipeline.target import Target, labels_in

#: Records of a side that fidelity compares at most; more change the third digit and cost memory.
LARGEST_SIDE = 4000
#: Fewest test records of which two halves can be held against each other by 5 neighbours.
FEWEST_TEST_RECORDS = 14


@dataclass(frozen=True)
class EvaluateSettings:
    """What `evaluate` is asked for.

    Attributes:
        method, name: which synthetic set; no method takes the only transfer.
        seeds: trainings of each arm of the utility study.
        classifier: shape and training of the downstream classifier.
        seed: of everything else that is drawn.
    """

    method: str | None = None
    name: str = "synthetic"
    seeds: int = 3
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"expected at least 1 training seed, got {self.seeds}")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to, as its card holds it.

    Attributes:
        verdict: one sentence on the utility.
        utility, fidelity: every number.
        utility_rows, fidelity_rows: the same as tables, header first.
    """

    verdict: str
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
    """Measure utility and fidelity of a synthetic set on the test records, or find it done.

    Utility: the classifier trained on the target's training records alone against the same with
    the synthetic records added. Fidelity: in the feature space of a classifier of the target's
    training records, beside two halves of the real test records and beside the source's records.

    Raises:
        ConfigError: too few test records.
        RunError: no such synthetic set, or other settings in place.
    """
    method = settings.method or only_method(run)
    synthetic_card = run.stage(synthetic_stage(settings.name, method)).card
    stage = run.stage(f"evaluation-{synthetic_stage(settings.name, method)}")
    asked = {
        "evaluate": settings,
        "synthetic": synthetic_card["results"]["fingerprint"],
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
    synthetic = ECGSet.open(run.folder / synthetic_stage(settings.name, method) / SET)
    generated = LabelledRecords(
        synthetic.independent_mv(), labels_in(source.label_space, synthetic)
    )
    real_train, real_test = _labelled(target, target.train), _labelled(target, target.test)
    utility = compare_arms(
        real_train,
        {f"target + {method}": generated},
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
    rng = np.random.default_rng([settings.seed, 6])
    scale = FeatureScale.fitted(embedding.features(real_train.signals_mv))
    test_side = real_test.select(_some(rng, len(real_test)))
    generated_side = generated.select(_some(rng, len(generated)))
    source_set, source_train, _ = source.records()
    source_numbers = source_train[_some(rng, len(source_train))]
    test_features = scale(embedding.features(test_side.signals_mv))
    fidelity = measure_fidelity(
        test_features,
        scale(embedding.features(generated_side.signals_mv)),
        test_side.signals_mv,
        generated_side.signals_mv,
        target.ecgset.sampling_rate_hz,
        test_side.patients,
        seed=settings.seed,
    )
    source_frechet = compare_with_halves(
        test_features,
        scale(embedding.features(source_set.independent_mv(source_numbers))),
        test_side.patients,
        records=fidelity.frechet.records,
        seed=settings.seed,
    )
    rows = [list(row) for row in fidelity.rows()]
    rows.insert(
        2, ["Frechet distance, source", str(source_frechet.score), str(source_frechet.reference)]
    )
    evaluation = Evaluation(
        verdict=utility.verdicts()[0],
        utility=utility.to_dict(),
        fidelity=fidelity.to_dict() | {"source_frechet": source_frechet.to_dict()},
        utility_rows=[list(row) for row in utility.rows()],
        fidelity_rows=rows,
    )
    stage.finish(evaluation)
    return evaluation


def _labelled(target: Target, numbers: np.ndarray) -> LabelledRecords:
    patients = target.ecgset.records.patient.astype(str).to_numpy()
    return LabelledRecords(
        target.ecgset.independent_mv(numbers), target.labels[numbers], patients[numbers]
    )


def _some(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.sort(rng.permutation(n)[:LARGEST_SIDE])
