"""Stages `utility-<name>`: do synthetic records help a classifier of held-out target patients?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ecgtransfer.defaults import ARMS, UTILITY_SEEDS
from ecgtransfer.drawing import Table
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation import (
    RATIOS,
    Arm,
    ClassifierConfig,
    LabelledRecords,
    UtilityResult,
    count_trainings,
    default_arms,
    utility_study,
)
from ecgtransfer.pipeline.answers import (
    Answer,
    SyntheticSets,
    asked,
    begin_answer,
    labelled,
    labelled_source,
    labelled_synthetic,
    question_stage,
    refuse_few,
    synthetic_sets,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import Target
from ecgtransfer.statistics import (
    Verdict,
)

#: Those of `ARMS` that learn from the source's records.
OF_SOURCE_RECORDS = ("source", "every-baseline")

#: Fewest test records whose scores say anything.
FEWEST_TEST_RECORDS = 14


@dataclass(frozen=True)
class UtilitySettings:
    """What the utility study is asked for.

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

    def trainings(self, methods: tuple[str, ...]) -> int:
        """How many classifiers such a study trains at most."""
        return count_trainings(self.arms_for(methods), self.classifier, self.training_seeds)

    @property
    def training_seeds(self) -> range:
        """Of the trainings of each arm."""
        return range(self.seed, self.seed + self.seeds)


def evaluate_utility(
    run: Run,
    source: Source,
    target: Target,
    settings: UtilitySettings,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Train a classifier with and without synthetic records, or find it done.

    All arms learn from the target's training records (and the source's, where they are asked to)
    and are tested on its test records.

    Raises:
        ConfigError: too few test records, or too few synthetic ones for a ratio.
        RunError: no such synthetic set, other settings in place, or arms that learn from the
            source's records where these are not here.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    settings = replace(settings, methods=sets.methods)
    arms = settings.arms_for(sets.methods)
    if any(arm.source for arm in arms) and source.location is None:
        source.records()  # refuses in a sentence, before anything is begun
    stage = question_stage(run, "utility", settings.name)
    if held := begin_answer(stage, "utility", asked(settings, sets, target)):
        return held
    refuse_few(len(target.test), FEWEST_TEST_RECORDS, "test records to measure utility")
    result = utility_study(
        labelled(target.ecgset, target.labels, target.train),
        labelled(target.ecgset, target.labels, target.test),
        target.label_space.names,
        settings.classifier,
        stage.folder / "trainings",
        source=labelled_source(run, source, target) if any(arm.source for arm in arms) else None,
        synthetic=_labelled_sets(target, sets),
        arms=arms,
        seeds=settings.training_seeds,
        sampling_rate_hz=target.ecgset.sampling_rate_hz,
        progress=progress,
    )
    answer = Answer(
        "utility",
        tuple(_summary(result, arms, method) for method in sets.methods),
        _judged(result),
        (
            Table.from_rows(
                "Classifiers of held-out target patients",
                result.arm_rows(),
                "Differences are to the same way without synthetic records; of sets alone, to the "
                "target only.",
            ),
        ),
        result.to_dict(),
    )
    stage.finish(answer.to_card())
    return answer


def _summary(result: UtilityResult, arms: Sequence[Arm], method: str) -> Verdict:
    """How many of the ways to train with a method's set help or harm, and the best one overall.

    Controls and the arm without target records, which differs by more than synthetic ones, are left
    out.
    """
    own = {arm.name for arm in arms if arm.synthetic == method}
    found = [
        change.verdict
        for change in result.differences
        if change.name in own and not change.control and not change.alone
    ]
    helping, harming = found.count("helps"), found.count("harms")
    overall = [one.sentence() for one in result.overall if one.synthetic == method]
    told = (
        f"of {len(found)} ways to train with its records {helping} help and {harming} harm, each "
        f"against the same way without them ({result.test_patients} test patients)."
    )
    return Verdict(
        None if (helping > 0) == (harming > 0) else helping > 0,
        " ".join([f"{method}: {told}", *overall, *result.warnings()]),
    )


def _judged(result: UtilityResult) -> tuple[Verdict, ...]:
    """Good news where synthetic records help; a control, or training on them alone, is neither."""
    passed = {"helps": True, "no evidence": None, "harms": False}
    return tuple(
        Verdict(None if change.control or change.alone else passed[change.verdict], sentence)
        for change, sentence in zip(result.differences, result.verdicts(), strict=True)
    )


def _labelled_sets(target: Target, sets: SyntheticSets) -> dict[str, LabelledRecords]:
    return {
        method: labelled_synthetic(target.label_space, sets.open(method)) for method in sets.methods
    }
