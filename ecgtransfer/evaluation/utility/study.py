"""Measure whether synthetic records improve a classifier of held-out target patients.

An *arm* is a choice of training records. All arms train the same network with the same settings and
seeds. The effect of synthetic records is the difference between an arm with them and the arm with
the *same recipe without*; a different recipe would differ in more than records.

`Overall` compares the best recipes: the arm with synthetic records that has the best *training*
score (of out-of-fold predictions) against every arm without. It is not chosen by its test score,
because that would select on the records that are used for the comparison. The test records are used
once, for the scores.

Target training sets are small (80 records, nine classes), so no validation records are held out:
the number of steps is fixed in advance, and thresholds are chosen from out-of-fold predictions.

Intervals resample test patients and training seeds. Those of a macro AUROC, and of differences of
it, are widened for few patients (`statistics.student_draws`), because a bootstrap cannot show the
variation of a class with a single positive patient. They apply to *this* target training set, not
to the patients of another hospital.

Added records also have a regularising effect: with few target records, even records with shuffled
labels can improve the scores slightly. The control arm measures this effect.
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

#: Groups of `ARMS` that are trained on source records.
OF_SOURCE_RECORDS = ("source", "every-baseline")

#: Fewest test records for a study.
FEWEST_TEST_RECORDS = 14


@dataclass(frozen=True)
class UtilitySettings:
    """Settings of the utility evaluation.

    Attributes:
        methods: transfer methods to evaluate; empty for all that have a set of this name.
        name: name of the synthetic sets.
        arms: groups of `ARMS`; without any, a study has target only, alone and with each set.
        ratios: synthetic records per target record.
        seeds: number of trainings of each arm.
        classifier: settings of the classifier, the same for every arm.
        seed: first seed of the trainings.

    Raises:
        ConfigError: there is no seed or no ratio, or a group of arms is unknown.
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
            raise ConfigError(
                f"expected at least 1 training seed, got {self.seeds}; raise the number of seeds"
            )
        if unknown := sorted(set(self.arms) - set(ARMS)):
            raise ConfigError(
                f"expected arms of {', '.join(ARMS)}, got {unknown[0]!r}; choose some of these"
            )
        if not self.ratios:
            raise ConfigError(
                "expected one or more ratios of synthetic records, got none; give a ratio"
            )

    def arms_for(self, methods: tuple[str, ...]) -> tuple[Arm, ...]:
        """Return the arms of a study of these methods' sets."""
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
        """Whether any arm is trained on source records."""
        return any(arm.source for arm in self.arms_for(self.methods))

    def trainings(self, methods: tuple[str, ...]) -> int:
        """Return the largest number of classifiers that a study of these methods trains."""
        return count_trainings(self.arms_for(methods), self.classifier, self.training_seeds)

    @property
    def training_seeds(self) -> range:
        """Seeds of the trainings of each arm."""
        return range(self.seed, self.seed + self.seeds)


def evaluate_utility(
    settings: UtilitySettings,
    cohorts: Cohorts,
    folder: Path,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> UtilityEvaluation:
    """Train classifiers with and without each synthetic set and compare them.

    Args:
        settings: settings.
        cohorts: records to train and test on.
        folder: folder of the evaluation; the trainings are in `trainings`.
        workers: not used.
        progress: called with (training steps done, training steps in total).

    Raises:
        ConfigError: there are too few test records, or too few synthetic records for a ratio.
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
    """Train and test every arm, and compare each arm with synthetic records with the same without.

    For each arm and seed, `config.folds` trainings each leave out one fold of the target records
    and predict it. Thresholds, and the score by which the best arms are chosen, come from these
    out-of-fold predictions. One training on all target records then predicts the test records. A
    classifier that is trained on the source only predicts all target records out of sample. An arm
    without target records is cross-fitted on its synthetic records.

    A synthetic set made by a model that was trained on the held-out fold makes the thresholds of
    its own arms slightly optimistic. It does not affect the ranking of the test records.

    Intervals resample test patients and seeds (`draw_seed_shares`), because a training is random
    too. Arms are paired in both. The crossed resampling is conservative (Owen 2007). With two or
    three seeds their spread is hardly known, and intervals are wide. Classes without positive or
    without negative test records are not scored; the result names them.

    Args:
        target: training records of the target.
        test: records of held-out target patients.
        label_names: names of the K labels, in order.
        config: settings of the classifier of every arm.
        folder: folder of all trainings, each in a folder named by its key. A finished training is
            not repeated, an interrupted one is resumed, and arms share equal trainings.
        source: records of the source in the same label space, for arms with a `source`.
        synthetic: synthetic sets by name.
        arms: arms to compare; by default `default_arms` of the sets, with source arms if `source`
            is given and an augmented arm if `sampling_rate_hz` is.
        seeds: seeds of the trainings.
        sampling_rate_hz: sampling rate of all signals; augmentation needs it.
        resamples: bootstrap resamples.
        progress: called with (training steps done, training steps in total).

    Raises:
        CorpusError: `train_classifier` or `draw_resamples` refuses the records, a patient is in two
            sets, or no class can be scored.
        ConfigError: an arm lacks records or its recipe without synthetic records, or seeds or names
            are missing or repeated.
        RunError: a training cannot be resumed.
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
        raise ConfigError(f"expected one or more different seeds, got {list(seeds)}; change them")
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
    """Summarise the scores of an arm."""
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
    """Check that the arms have different names, their records, and an arm to compare with.

    Raises:
        ConfigError: they do not.
    """
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"expected arms with different names, got {', '.join(names)}; rename the repeated ones"
        )
    if not any(arm.baseline for arm in arms):
        raise ConfigError(
            "expected at least one arm without synthetic records to compare with, got none; add "
            f"{TARGET_ONLY!r}"
        )
    for arm in arms:
        if arm.synthetic and arm.has_recipe_without and arm.without(arms) is None:
            raise ConfigError(
                f"{arm.name!r} has synthetic records, but no arm has the same recipe without "
                "them; add one to compare it with"
            )
        for name in (arm.synthetic, arm.tested_on):
            if name is not None and name not in sets:
                raise ConfigError(
                    f"{arm.name!r} needs the synthetic set {name!r}, got "
                    f"{', '.join(sets) or 'none'}; give the set or remove the arm"
                )
        if arm.source is not None and source is None:
            raise ConfigError(
                f"{arm.name!r} needs source records, got none; give them or remove the arm"
            )
        if arm.augmented and sampling_rate_hz is None:
            raise ConfigError(
                f"{arm.name!r} augments, which needs sampling_rate_hz, got none; give the rate or "
                "remove the arm"
            )


def _check_records(
    given: StudyRecords, source: LabelledRecords | None, names: tuple[str, ...]
) -> None:
    """Check labels and leads of all sets, and that no patient is in two of them.

    Raises:
        CorpusError: labels or leads differ, or a patient is in two sets.
    """
    real = {"target": given.target, "test": given.test}
    if source is not None:
        real["source"] = source
    for part in (*real.values(), *given.synthetic.values()):
        check_agreement(given.target, part, names)
    named = list(real.items())
    for index, (first, records) in enumerate(named):
        for second, others in named[index + 1 :]:
            refuse_shared(records.patients, others.patients, first, second)


def _rounded(value: float) -> int:
    """Nearest integer, halves up, as in `matched_records`."""
    return int(np.floor(value + 0.5))
