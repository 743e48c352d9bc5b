"""Does the synthetic set help a classifier of held-out target patients?

An *arm* is what a classifier is trained on. Every arm trains the same network with the same
settings and seeds. Whether synthetic records help is the difference between an arm with them and
the *same recipe without*: another recipe differs by more than records, and a weaker one would
"harm" with any records. Which recipe is best overall is another question (`Overall`): the arm with
synthetic records that has the best *training* score (out-of-fold, or validation, predictions)
against every arm without. The best of several by its test score would be selected on the records it
is then compared on. The test records are used once, for the scores.

Target training sets are small (80 records, nine classes), so nothing is held out of them for good
unless validation records are given: the number of steps is fixed before, and thresholds come from
out-of-fold predictions.

Intervals resample test patients and training seeds. Those of a macro AUROC and of its differences
are widened for few patients (`statistics.student_draws`): a single positive of a class is in every
resample. They apply to *this* target training set: another hospital's eighty patients are another
question.

Added records of any kind also regularise: with a handful of target records even additions with
shuffled labels can gain a little. That is what the control arm measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ecgtransfer.corpus.protocols import refuse_shared
from ecgtransfer.defaults import ARMS, UTILITY_SEEDS
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.augmentation import Augmentation
from ecgtransfer.evaluation.classifier import (
    ClassifierConfig,
    check_agreement,
)
from ecgtransfer.evaluation.cohorts import Cohorts, require_at_least
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.evaluation.utility.arms import RATIOS, TARGET_ONLY, Arm, default_arms
from ecgtransfer.evaluation.utility.result import ArmResult, UtilityEvaluation, UtilityResult
from ecgtransfer.evaluation.utility.scores import (
    ArmScores,
    Outcome,
    ScoreTable,
    compare_arms,
    training_scores,
)
from ecgtransfer.evaluation.utility.trainings import SEEDS, StudyRecords, Trainings, count_trainings
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
)

#: Those of `ARMS` that learn from the source's records.
OF_SOURCE_RECORDS = ("source", "every-baseline")

#: Fewest test records whose scores say anything.
FEWEST_TEST_RECORDS = 14


@dataclass(frozen=True)
class UtilitySettings:
    """Settings of the utility question.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        arms: groups of `ARMS`; a study without any has the target alone and with each set.
        ratios: synthetic records for each target record.
        seeds: trainings of each arm.
        classifier: shape and training of the classifier, the same for every arm.
        seed: the first of them.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    arms: tuple[str, ...] = ARMS
    ratios: tuple[float, ...] = RATIOS
    seeds: int = UTILITY_SEEDS
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"expected at least 1 training seed, got {self.seeds}")
        if unknown := sorted(set(self.arms) - set(ARMS)):
            raise ConfigError(f"expected arms of {', '.join(ARMS)}, got {unknown[0]!r}")
        if not self.ratios:
            raise ConfigError("expected one or more ratios of synthetic records, got none")

    def arms_for(self, methods: tuple[str, ...]) -> tuple[Arm, ...]:
        """The arms of a study of these methods' sets."""
        return default_arms(
            methods,
            ratios=self.ratios,
            oversampled="oversampled" in self.arms,
            augmented="augmented" in self.arms,
            source="source" in self.arms,
            every_baseline="every-baseline" in self.arms,
            synthetic_only="synthetic-only" in self.arms,
            control="control" in self.arms,
        )

    @property
    def learns_from_source(self) -> bool:
        """Whether any arm learns from the source's records."""
        return any(arm.source for arm in self.arms_for(self.methods))

    def trainings(self, methods: tuple[str, ...]) -> int:
        """How many classifiers such a study trains at most."""
        return count_trainings(self.arms_for(methods), self.classifier, self.training_seeds)

    @property
    def training_seeds(self) -> range:
        """Of the trainings of each arm."""
        return range(self.seed, self.seed + self.seeds)


def evaluate_utility(
    settings: UtilitySettings,
    cohorts: Cohorts,
    folder: Path,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> UtilityEvaluation:
    """Train a classifier with and without each synthetic set.

    All arms learn from the target's training records (and the source's, where they are asked to)
    and are tested on its test records. `workers` are not used.

    Raises:
        ConfigError: too few test records, or too few synthetic ones for a ratio.
    """
    require_at_least(len(cohorts.test), FEWEST_TEST_RECORDS, "test records to measure utility")
    result = utility_study(
        cohorts.train.load(),
        cohorts.test.load(),
        cohorts.label_names,
        settings.classifier,
        folder / "trainings",
        source=None if cohorts.source is None else cohorts.source.load(),
        synthetic={method: cohort.load() for method, cohort in cohorts.synthetic.items()},
        arms=settings.arms_for(settings.methods),
        seeds=settings.training_seeds,
        sampling_rate_hz=cohorts.sampling_rate_hz,
        progress=progress,
    )
    return UtilityEvaluation(settings.methods, result)


def utility_study(
    target: LabelledRecords,
    test: LabelledRecords,
    label_names: Sequence[str],
    config: ClassifierConfig,
    folder: Path,
    *,
    source: LabelledRecords | None = None,
    synthetic: Mapping[str, LabelledRecords] | None = None,
    arms: Sequence[Arm] | None = None,
    seeds: Sequence[int] = SEEDS,
    sampling_rate_hz: float | None = None,
    resamples: int = BOOTSTRAP_RESAMPLES,
    progress: StepsDone | None = None,
) -> UtilityResult:
    """Train and test every arm, and hold each with synthetic records against the same without.

    For each arm and seed: `config.folds` trainings, each without one fold of the target records,
    predict that fold; the thresholds, and the score by which the best arms without and with
    synthetic records are chosen, come from these out-of-fold predictions; one training on all
    target records predicts the test records. (A classifier of the source only has seen none of
    them, so its predictions are as good.) An arm without target records takes its thresholds out of
    fold from its synthetic ones, and never sees a target record. Synthetic records made by a model
    that saw the held-out fold make the thresholds of their own arms, never the ranking of the test
    records, slightly optimistic.

    Intervals resample test patients and, because a training is random too, seeds
    (`draw_seed_shares`); arms are paired in both, and crossing the two errs on the wide side (Owen
    2007). With two or three seeds hardly anything is known of their spread, and intervals are as
    wide as that. Classes without positive (or without negative) test records are left out and
    named.

    Args:
        target: training records of the target.
        test: held-out target patients.
        label_names: of the K labels, in order.
        config: the classifier of every arm.
        folder: keeps every training, by what it was trained on: none is repeated, an interrupted
            one goes on, and arms that train the same thing share it.
        source: records of the source in the same label space, for arms with a `source`.
        synthetic: the sets that arms name.
        arms: what is compared; by default `default_arms` of the sets, with the source where it is
            given and augmentation where the sampling rate is.
        seeds: of the trainings.
        sampling_rate_hz: of all signals; augmentation needs it.
        resamples: of the bootstrap.
        progress: called after every step.

    Raises:
        CorpusError: what `train_classifier` and `draw_resamples` refuse, a patient on two sides,
            or nothing to score.
        ConfigError: arms that the records given do not suffice for, or with synthetic records and
            no arm of the same recipe without them; no or repeated seeds or names.
        RunError: a training that cannot go on.
    """
    names = tuple(label_names)
    given = StudyRecords(target, test, dict(synthetic or {}))
    sets = given.synthetic
    if arms is None:
        arms = default_arms(
            tuple(sets), source=source is not None, augmented=sampling_rate_hz is not None
        )
    _check_arms(arms, sets, source, sampling_rate_hz)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"expected one or more different seeds, got {list(seeds)}")
    _check_records(given, source, names)
    augmentation = None
    if sampling_rate_hz is not None and any(arm.augmented for arm in arms):
        augmentation = Augmentation(names, sampling_rate_hz)
    tables = {
        tested_on: ScoreTable.of([given.tested_on(tested_on)], names, len(seeds), resamples)
        for tested_on in {None, *(arm.tested_on for arm in arms)}
    }
    table = tables[None]
    trainings = Trainings(given, names, config, folder, source, augmentation, arms, seeds, progress)
    trainings.check(arms, seeds)
    outcomes = {arm.name: [[trainings.outcome(arm, seed)] for seed in seeds] for arm in arms}
    scores = {arm.name: tables[arm.tested_on].scores(outcomes[arm.name]) for arm in arms}
    compared = compare_arms(arms, outcomes, scores, table)
    return UtilityResult(
        arms=tuple(
            _arm_result(arm, given, source, tables[arm.tested_on], outcomes[arm.name], scores)
            for arm in arms
        ),
        best=compared.best,
        best_macro_auroc=compared.best_macro_auroc,
        differences=compared.differences,
        differences_to_target_only=compared.differences_to_target_only,
        overall=compared.overall,
        seeds=tuple(seeds),
        test_records=len(table.truth),
        test_patients=table.patients,
        left_out=table.left_out,
    )


def _arm_result(
    arm: Arm,
    given: StudyRecords,
    source: LabelledRecords | None,
    table: ScoreTable,
    outcomes: Sequence[Sequence[Outcome]],
    scores: Mapping[str, ArmScores],
) -> ArmResult:
    """The result of an arm."""
    found, training_score = scores[arm.name], float(training_scores(outcomes).mean())
    target, synthetic = len(given.target), 0
    if arm.synthetic is not None:
        whole = len(given.synthetic[arm.synthetic])
        synthetic = whole if arm.ratio is None else _rounded(arm.ratio * target)
    return ArmResult(
        name=arm.name,
        baseline=arm.baseline,
        tested_on=arm.tested_on,
        target_records=target if arm.target else 0,
        source_records=len(source) if source is not None and arm.source else 0,
        synthetic_records=synthetic,
        test_records=len(table.truth),
        training_score=training_score if np.isfinite(training_score) else None,
        macro_auroc=found.estimate("macro_auroc", table),
        macro_average_precision=found.estimate("macro_average_precision", table),
        f2=found.estimate("f2", table),
        g2=found.estimate("g2", table),
        calibration_error=found.estimate("calibration_error", table),
        per_class_auroc=found.per_class["macro_auroc"],
        per_class_average_precision=found.per_class["macro_average_precision"],
        macro_auroc_by_seed=tuple(found.by_seed["macro_auroc"].tolist()),
    )


def _check_arms(
    arms: Sequence[Arm],
    sets: Mapping[str, LabelledRecords],
    source: LabelledRecords | None,
    sampling_rate_hz: float | None,
) -> None:
    """ConfigError for arms that contradict each other or lack their records."""
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise ConfigError(f"expected arms with different names, got {', '.join(names)}")
    if not any(arm.baseline for arm in arms):
        raise ConfigError(
            "expected at least one arm without synthetic records to compare with, got none; add "
            f"{TARGET_ONLY!r}"
        )
    for arm in arms:
        if arm.synthetic and arm.has_recipe_without and arm.without(arms) is None:
            raise ConfigError(
                f"{arm.name!r} has synthetic records, and no arm has the same recipe without them; "
                "add one to compare it with"
            )
        for name in (arm.synthetic, arm.tested_on):
            if name is not None and name not in sets:
                raise ConfigError(
                    f"{arm.name!r} needs the synthetic set {name!r}, got "
                    f"{', '.join(sets) or 'none'}; give it or leave the arm out"
                )
        if arm.source is not None and source is None:
            raise ConfigError(
                f"{arm.name!r} needs the source's records; give them, or leave it out"
            )
        if arm.augmented and sampling_rate_hz is None:
            raise ConfigError(
                f"{arm.name!r} augments, which needs sampling_rate_hz; give it, or leave it out"
            )


def _check_records(
    given: StudyRecords, source: LabelledRecords | None, names: tuple[str, ...]
) -> None:
    """CorpusError for records that do not go together, or a patient on two sides."""
    real = {"target": given.target, "test": given.test}
    if source is not None:
        real["source"] = source
    for part in (*real.values(), *given.synthetic.values()):
        check_agreement(given.target, part, names)
    named = list(real.items())
    for number, (first, here) in enumerate(named):
        for second, there in named[number + 1 :]:
            refuse_shared(here.patients, there.patients, first, second)


def _rounded(number: float) -> int:
    """The nearest whole number, halves up, as `matched_records` counts."""
    return int(np.floor(number + 0.5))
