"""Trainings of a utility study: records and folder of each."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import stratified_folds
from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.augmentation import Augmentation
from ecgtransfer.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    ClassifierTraining,
    lead_scale,
)
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.evaluation.metrics import (
    apply_thresholds,
    choose_thresholds,
    macro_auroc,
)
from ecgtransfer.evaluation.utility.arms import (
    Arm,
    matched_records,
)
from ecgtransfer.evaluation.utility.scores import (
    Outcome,
)
from ecgtransfer.statistics import (
    FloatArray,
    streams,
    undefined_classes,
)
from ecgtransfer.storage import atomic_file
from ecgtransfer.training import Progress

#: Default seeds: one training of each arm per seed.
SEEDS = range(5)


def count_trainings(
    arms: Sequence[Arm],
    config: ClassifierConfig,
    seeds: Sequence[int] = SEEDS,
) -> int:
    """Largest number of classifiers that a study trains, including pre-training."""
    jobs = {job for arm in arms for job in _jobs(arm, config)}
    pretrainings = any(arm.source == "pretrained" for arm in arms)
    return (len(jobs) + pretrainings) * len(seeds)


@dataclass(frozen=True, eq=False)
class StudyRecords:
    """Records of a study.

    Attributes:
        target: training records of the target.
        test: test records of the target.
        synthetic: synthetic sets by name.
    """

    target: LabelledRecords
    test: LabelledRecords
    synthetic: dict[str, LabelledRecords]

    def tested_on(self, synthetic: str | None) -> LabelledRecords:
        """Return the synthetic set with this name, or the test records for None."""
        return self.test if synthetic is None else self.synthetic[synthetic]


@dataclass(frozen=True)
class _Job:
    """One training of a recipe, without the fold `fold`, or on all records for None."""

    recipe: Arm
    fold: int | None


def _jobs(arm: Arm, config: ClassifierConfig) -> Iterator[_Job]:
    """Yield the trainings of an arm for one seed, without pre-training."""
    if arm.source_only:
        return
    yield _Job(arm.recipe, None)
    for fold in range(config.folds):
        yield _Job(arm.recipe, fold)


class Trainings:
    """All trainings of a study, with their records, folders and progress."""

    def __init__(
        self,
        given: StudyRecords,
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
        """Check before any training that each set has enough records for its ratios.

        Raises:
            ConfigError: a set has too few records of a combination of labels.
        """
        needed = {(a.synthetic, a.ratio) for a in arms if a.synthetic and a.ratio is not None}
        labels = self.given.target.labels
        for seed in seeds if needed else ():
            fold_of = self.folds(self.given.target, seed)
            for part in (labels, *(labels[fold_of != f] for f in range(self.config.folds))):
                for name, ratio in needed:
                    if name is not None and ratio is not None:
                        available = self.given.synthetic[name].labels
                        matched_records(available, part, ratio, seed, self.names)

    def outcome(self, arm: Arm, seed: int) -> Outcome:
        """Train an arm, choose its thresholds, and predict its test records."""
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
        """Train the classifier of a job, or load it; return it with its folder."""
        training = self.training(job, seed)
        place = self.folder / training.key
        steps = 0 if (job, seed) in self.finished else self.config.steps
        self.finished.add((job, seed))
        return self.run(training, place, steps), place

    def training(self, job: _Job, seed: int) -> ClassifierTraining:
        """Describe the training of a job."""
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
        """Return the records on which an arm is cross-fitted: target records, else synthetic."""
        target = self.given.target
        return target if arm.target else self.chosen(arm, target, seed)

    def chosen(self, arm: Arm, beside: LabelledRecords, seed: int) -> LabelledRecords:
        """Select the synthetic records of an arm, in the class mix of the records `beside`."""
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
        """Assign a fold to each record of an arm."""
        return stratified_folds(own.labels, own.patients, self.config.folds, seed)

    def start(self, seed: int) -> tuple[Classifier, Path]:
        """Return the classifier that is pre-trained on the source with a seed, and its folder."""
        if seed not in self.pretrained:
            assert self.source is not None
            config = self.config.pretraining()
            training = ClassifierTraining(self.source, self.names, config, seed=seed)
            place = self.folder / training.key
            self.pretrained[seed] = self.run(training, place, config.steps), place
        return self.pretrained[seed]

    def run(self, training: ClassifierTraining, place: Path, steps: int) -> Classifier:
        """Train, or load a finished training, and count its steps."""
        report = self.progress if steps else None
        classifier = training.run(place, _reporter(report, self.done, self.total))
        self.done += steps
        if report:
            report(self.done, self.total)
        return classifier


def _predicted(classifier: Classifier, place: Path, records: LabelledRecords) -> FloatArray:
    """Predict probabilities (n, K); they are stored in the folder of the classifier."""
    path = place / f"scores-{records.fingerprint()[:16]}.npy"
    if not path.exists():
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.save(file, classifier(records.signals_mv), allow_pickle=False)
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)


def _reporter(
    progress: StepsDone | None, done: int, total: int
) -> Callable[[Progress], None] | None:
    """Progress callback of `fit` that adds the steps of earlier trainings."""
    if progress is None:
        return None
    return lambda now: progress(done + now.step, total)
