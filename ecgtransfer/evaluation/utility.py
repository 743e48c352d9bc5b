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

Intervals resample test patients and training seeds. Those of a macro AUROC and of differences of it
are spread to what few patients leave unknown (`metrics.widening`): a lone positive of a class is in
every resample alike. They are about *this* target training set: another hospital's eighty patients
are another question.

Added records of any kind also regularise: with a handful of target records even additions with
shuffled labels can gain a little. That is what the control arm measures.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.protocols import refuse_shared
from ecgtransfer.corpus.splits import stratified_folds
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.arms import TARGET_ONLY, Arm, default_arms, matched_records
from ecgtransfer.evaluation.augmentation import Augmentation
from ecgtransfer.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    ClassifierTraining,
    LabelledRecords,
    check_agreement,
    lead_scale,
)
from ecgtransfer.evaluation.metrics import (
    apply_thresholds,
    choose_thresholds,
    macro_auroc,
)
from ecgtransfer.evaluation.utility_result import ArmResult, UtilityResult
from ecgtransfer.evaluation.utility_scores import (
    ArmScores,
    Outcome,
    ScoreTable,
    compare_arms,
    training_scores,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    FloatArray,
    streams,
    undefined_classes,
)
from ecgtransfer.storage import atomic_file
from ecgtransfer.training import Progress

#: Trainings of each arm: the fewest whose spread says something.
SEEDS = range(5)


#: (steps done, steps in all) of all trainings together.
StepsDone = Callable[[int, int], None]


def count_trainings(
    arms: Sequence[Arm],
    config: ClassifierConfig,
    seeds: Sequence[int] = SEEDS,
) -> int:
    """How many classifiers a study trains at most, pre-trainings included."""
    jobs = {job for arm in arms for job in _jobs(arm, config)}
    pretrainings = any(arm.source == "pretrained" for arm in arms)
    return (len(jobs) + pretrainings) * len(seeds)


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
    given = _Given(target, test, dict(synthetic or {}))
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
    trainings = _Trainings(
        given, names, config, folder, source, augmentation, arms, seeds, progress
    )
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


@dataclass(frozen=True, eq=False)
class _Given:
    """The target's records of a study and its synthetic sets."""

    target: LabelledRecords
    test: LabelledRecords
    synthetic: dict[str, LabelledRecords]

    def tested_on(self, synthetic: str | None) -> LabelledRecords:
        """The test records, or the synthetic set of that name."""
        return self.test if synthetic is None else self.synthetic[synthetic]


@dataclass(frozen=True)
class _Job:
    """One training: without fold `fold` of its own records, or on all of them."""

    recipe: Arm
    fold: int | None


def _jobs(arm: Arm, config: ClassifierConfig) -> Iterator[_Job]:
    """The trainings of an arm for one seed, but for the pre-training."""
    if arm.source_only:
        return
    yield _Job(arm.recipe, None)
    for fold in range(config.folds):
        yield _Job(arm.recipe, fold)


class _Trainings:
    """The trainings of a study: what each is made of, and what is done of them all."""

    def __init__(
        self,
        given: _Given,
        names: tuple[str, ...],
        config: ClassifierConfig,
        folder: Path,
        source: LabelledRecords | None,
        augmentation: Augmentation | None,
        arms: Sequence[Arm],
        seeds: Sequence[int],
        progress: StepsDone | None,
    ) -> None:
        self.given, self.names, self.config, self.folder = given, names, config, folder
        self.source, self.augmentation, self.progress = source, augmentation, progress
        jobs = {job for arm in arms for job in _jobs(arm, config)}
        self.total = len(jobs) * len(seeds) * config.steps
        if any(arm.source == "pretrained" for arm in arms):
            self.total += len(seeds) * config.pretraining_steps
        self.done = 0
        self.finished: set[tuple[_Job, int]] = set()
        self.pretrained: dict[int, tuple[Classifier, Path]] = {}

    def check(self, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        """ConfigError, before anything is trained, where a set has too few records for a ratio."""
        asked = {(a.synthetic, a.ratio) for a in arms if a.synthetic and a.ratio is not None}
        labels = self.given.target.labels
        for seed in seeds if asked else ():
            fold_of = self.folds(self.given.target, seed)
            for part in (labels, *(labels[fold_of != f] for f in range(self.config.folds))):
                for name, ratio in asked:
                    if name is not None and ratio is not None:
                        held = self.given.synthetic[name].labels
                        matched_records(held, part, ratio, seed, self.names)

    def outcome(self, arm: Arm, seed: int) -> Outcome:
        """Train an arm, choose thresholds, predict what it is tested on."""
        test = self.given.tested_on(arm.tested_on)
        if arm.source_only:
            classifier, place = self.start(seed)
            unseen = self.given.target
            truth, held_out = unseen.labels, _predicted(classifier, place, unseen)
        else:
            own = self.own_records(arm, seed)
            fold_of = self.folds(own, seed)
            truth = own.labels
            held_out = np.empty(truth.shape)
            for fold in range(self.config.folds):
                classifier, place = self.trained(_Job(arm.recipe, fold), seed)
                held = np.flatnonzero(fold_of == fold)
                held_out[held] = _predicted(classifier, place, own.select(held))
            classifier, place = self.trained(_Job(arm.recipe, None), seed)
        thresholds = choose_thresholds(truth, held_out, self.config.thresholds)
        scores = _predicted(classifier, place, test)
        nothing = bool(undefined_classes(truth).all())
        return Outcome(
            scores,
            apply_thresholds(scores, thresholds).astype(np.float64),
            float("nan") if nothing else macro_auroc(truth, held_out),
        )

    def trained(self, job: _Job, seed: int) -> tuple[Classifier, Path]:
        """The classifier of a job and where it is kept."""
        training = self.training(job, seed)
        place = self.folder / training.key
        steps = 0 if (job, seed) in self.finished else self.config.steps
        self.finished.add((job, seed))
        return self.run(training, place, steps), place

    def training(self, job: _Job, seed: int) -> ClassifierTraining:
        """What a job trains."""
        arm = job.recipe
        own = self.own_records(arm, seed)
        if job.fold is not None:
            own = own.select(np.flatnonzero(self.folds(own, seed) != job.fold))
        records, added, scale = own, None, lead_scale(own)
        if arm.target and arm.synthetic is not None:
            chosen = self.chosen(arm, own, seed)
            if arm.ratio is None:
                added = chosen
            else:
                records = own.joined(chosen)
        if arm.source == "pooled":
            added = self.source
        config = self.config
        if arm.balance is not None:
            config = dataclasses.replace(config, balance=arm.balance)
        start = None
        if arm.source == "pretrained":
            start, config = self.start(seed)[0], config.finetuning()
        return ClassifierTraining(
            records,
            self.names,
            config,
            seed=seed,
            added=added,
            start=start,
            augmentation=self.augmentation if arm.augmented else None,
            lead_scale_mv=scale,
        )

    def own_records(self, arm: Arm, seed: int) -> LabelledRecords:
        """The records that an arm is cross-fitted on: the target's, else its synthetic ones."""
        target = self.given.target
        return target if arm.target else self.chosen(arm, target, seed)

    def chosen(self, arm: Arm, beside: LabelledRecords, seed: int) -> LabelledRecords:
        """The synthetic records of an arm beside some target records (of which labels count)."""
        assert arm.synthetic is not None
        chosen = self.given.synthetic[arm.synthetic]
        if arm.ratio is not None:
            chosen = chosen.select(
                matched_records(chosen.labels, beside.labels, arm.ratio, seed, self.names)
            )
        if arm.shuffled:
            order = streams.generator(seed, streams.ARM_ORDER).permutation(len(chosen))
            chosen = LabelledRecords(chosen.signals_mv, chosen.labels[order], chosen.patients)
        return chosen

    def folds(self, own: LabelledRecords, seed: int) -> npt.NDArray[np.int64]:
        """The fold of each of an arm's own records."""
        return stratified_folds(own.labels, own.patients, self.config.folds, seed)

    def start(self, seed: int) -> tuple[Classifier, Path]:
        """The classifier that is pre-trained on the source, one for each seed, and its place."""
        if seed not in self.pretrained:
            assert self.source is not None
            config = self.config.pretraining()
            training = ClassifierTraining(self.source, self.names, config, seed=seed)
            place = self.folder / training.key
            self.pretrained[seed] = self.run(training, place, config.steps), place
        return self.pretrained[seed]

    def run(self, training: ClassifierTraining, place: Path, steps: int) -> Classifier:
        """Train, or read what is done, and count its steps."""
        report = self.progress if steps else None
        classifier = training.run(place, _reporter(report, self.done, self.total))
        self.done += steps
        if report:
            report(self.done, self.total)
        return classifier


def _arm_result(
    arm: Arm,
    given: _Given,
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


def _check_records(given: _Given, source: LabelledRecords | None, names: tuple[str, ...]) -> None:
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


def _predicted(classifier: Classifier, place: Path, records: LabelledRecords) -> FloatArray:
    """Probabilities (n, K), kept beside the classifier."""
    path = place / f"scores-{records.fingerprint()[:16]}.npy"
    if not path.exists():
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.save(file, classifier(records.signals_mv), allow_pickle=False)
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)


def _reporter(
    progress: StepsDone | None, done: int, total: int
) -> Callable[[Progress], None] | None:
    """A `fit` progress that counts on from the trainings before."""
    if progress is None:
        return None
    return lambda now: progress(done + now.step, total)


def _rounded(number: float) -> int:
    """The nearest whole number, halves up, as `matched_records` counts."""
    return int(np.floor(number + 0.5))
