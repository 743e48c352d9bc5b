"""A quality gate for labelled synthetic records: the rule of their class, and a classifier.

A record fails by rule if it breaks the rule of one of its classes (`physiology.rules.RULES`). Real
records break rules as well, so the share of recorded training records that do is reported beside.

A record fails by classifier if it looks unlike the recorded training records of one of its classes.
Classifiers are cross-fitted over folds of training patients, and the probability that they give a
synthetic record for its class is compared with those that they give recorded records which they
were not trained on. The comparison is a label-conditional, cross-conformal p-value (Vovk,
"Cross-conformal predictors", Ann Math Artif Intell 2015). A record fails if the p-value of one of
its labels is below `GateSettings.error`. The error is per label: of records that resemble the
recorded ones about that share would fail by each label, and more of those with several labels. A
class with at most 1 / error - 1 recorded training records has no p-value that small, so the
classifier does not judge it (`GateCount.judged`). Test records are never used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus import stratified_folds
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    train_classifier,
)
from ecgtransfer.evaluation.delineation import Intervals
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.evaluation.physiology.rules import RULES
from ecgtransfer.statistics import FloatArray
from ecgtransfer.storage import OMIT_AT_DEFAULT
from ecgtransfer.training import Progress

IntArray = npt.NDArray[np.int64]


def gate_training() -> ClassifierConfig:
    """Shape and training of a classifier of the gate: smaller than that of the utility study.

    It judges whether a record is plausible among few recorded ones, not who is ill.
    """
    return ClassifierConfig(widths=(32, 48, 64), steps=150)


@dataclass(frozen=True)
class GateSettings:
    """Settings of the gate.

    Attributes:
        rules: whether records must obey the rule of their class.
        classifier: whether records must resemble recorded ones of their class for a classifier.
        error: share of records resembling the recorded ones that the classifier may reject by each
            of their labels.
        training: shape and training of each classifier.
    """

    rules: bool = True
    classifier: bool = True
    error: float = 0.1
    training: ClassifierConfig = field(default_factory=gate_training)

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise ConfigError(f"expected an error of the gate between 0 and 1, got {self.error}")
        if not self.rules and not self.classifier:
            raise ConfigError(
                "expected rules, a classifier or both for the gate, got neither; switch the gate "
                "off as a whole"
            )


@dataclass(frozen=True)
class GateVerdict:
    """Verdict on one synthetic record.

    Attributes:
        broken: its labels whose rule it breaks.
        unlike: its labels whose recorded records it does not resemble.
        assigned: the other label that the classifiers find most probable; None if nothing is
            `unlike`.
    """

    broken: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    assigned: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the record is kept."""
        return not self.broken and not self.unlike


@dataclass(frozen=True)
class GateCount:
    """Numbers of one class.

    Attributes:
        label: the class.
        generated: synthetic records with this label that were judged.
        passed: those that passed.
        broken: those that break the rule of this class.
        unlike: those that do not resemble the recorded ones of this class; 0 if not `judged`.
        assigned: number of unlike records by the label that the classifiers find most probable.
        rule: the rule; None for a class without one.
        recorded: recorded training records with this label.
        recorded_broken: those that break its rule; None for a class without one, or when rules are
            not asked for.
        judged: whether the classifier judged this class; see `can_judge`. Cards without it are read
            as judged.
    """

    label: str
    generated: int
    passed: int
    broken: int
    unlike: int
    assigned: dict[str, int]
    rule: str | None
    recorded: int
    recorded_broken: int | None
    judged: bool = field(default=True, metadata=OMIT_AT_DEFAULT)


def can_judge(recorded: int, error: float) -> bool:
    """Whether a class with this number of recorded records can have a p-value below the error."""
    return 1.0 / (1.0 + recorded) < error


def broken_rules(found: Intervals, labels: Sequence[str]) -> tuple[str, ...]:
    """Labels of a record whose rule it breaks; a record that cannot be delineated breaks each."""
    return tuple(
        name
        for name in labels
        if name in RULES
        and not set(RULES[name].unless) & set(labels)
        and not RULES[name].met_by(found)
    )


def conformal_p_values(
    calibration: Sequence[FloatArray], scores: Sequence[FloatArray]
) -> FloatArray:
    """Cross-conformal p-values of records, (m,).

    The p-value of a record is (1 + number of calibration records with a score at most its own) /
    (1 + number of calibration records), each compared by the classifier of its fold.

    Args:
        calibration: for each fold, scores (n_fold,) of recorded records that the classifier of the
            fold was not trained on.
        scores: for each fold, scores (m,) of the records by that classifier.

    Raises:
        CorpusError: there are no folds, or different numbers of them.
    """
    if not calibration or len(calibration) != len(scores):
        raise CorpusError(
            f"expected scores of calibration records and of records for each fold, got "
            f"{len(calibration)} and {len(scores)} folds"
        )
    below = sum(
        np.searchsorted(np.sort(known), own, side="right")
        for known, own in zip(calibration, scores, strict=True)
    )
    total = sum(len(known) for known in calibration)
    p_values: FloatArray = (1.0 + np.asarray(below, np.float64)) / (1.0 + total)
    return p_values


@dataclass(frozen=True, eq=False)
class GateClassifiers:
    """Classifiers that were cross-fitted over recorded training records.

    Attributes:
        label_names: names of the K labels.
        members: one classifier per fold, not trained on the records of its fold.
        probabilities: for each fold, probabilities (n_fold, K) of its records.
        labels: for each fold, their labels (n_fold, K).
    """

    label_names: tuple[str, ...]
    members: tuple[Classifier, ...]
    probabilities: tuple[FloatArray, ...]
    labels: tuple[npt.NDArray[np.float32], ...]

    @classmethod
    def fit(
        cls,
        records: LabelledRecords,
        label_names: Sequence[str],
        folds: IntArray,
        config: ClassifierConfig,
        folder: Path,
        seed: int = 0,
        progress: StepsDone | None = None,
    ) -> "GateClassifiers":
        """Train the classifiers, or read those that are done.

        Args:
            records: recorded training records, no test records.
            label_names: names of their labels.
            folds: fold of each record, (n,), patient-disjoint; see `gate_folds`.
            config: settings of each training.
            folder: gets one folder per fold.
            seed: seed of the trainings.
            progress: called with (training steps done, steps of all trainings).

        Raises:
            CorpusError: labels and names disagree.
            RunError: the folder holds other trainings, or a training diverged.
        """
        numbers = np.unique(folds)
        steps = config.steps

        def tell(place: int, now: Progress) -> None:
            if progress is not None:
                progress(place * steps + now.step, len(numbers) * steps)

        members, probabilities, labels = [], [], []
        for place, number in enumerate(numbers):
            held = np.flatnonzero(folds == number)
            member = train_classifier(
                records.select(np.flatnonzero(folds != number)),
                label_names,
                config,
                folder / f"fold-{number}",
                seed=seed,
                progress=partial(tell, place),
            )
            members.append(member)
            probabilities.append(np.asarray(member(records.signals_mv[held]), np.float64))
            labels.append(records.labels[held])
        return cls(tuple(label_names), tuple(members), tuple(probabilities), tuple(labels))

    def judge(
        self, signals_mv: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], error: float
    ) -> list[tuple[tuple[str, ...], str | None]]:
        """For each record the labels that it does not resemble, and the likeliest other label.

        Args:
            signals_mv: (m, 8, T).
            labels: (m, K).
            error: p-value below which a record does not resemble its class.
        """
        scores = [np.asarray(member(signals_mv), np.float64) for member in self.members]
        mean = np.mean(scores, axis=0)
        unlike = np.zeros(labels.shape, dtype=bool)
        for column in range(len(self.label_names)):
            rows = np.flatnonzero(labels[:, column] >= 0.5)
            known = [
                given[stated[:, column] >= 0.5, column]
                for given, stated in zip(self.probabilities, self.labels, strict=True)
            ]
            if len(rows):
                p_values = conformal_p_values(known, [given[rows, column] for given in scores])
                unlike[rows, column] = p_values < error
        elsewhere = np.where(labels >= 0.5, -np.inf, mean)
        results: list[tuple[tuple[str, ...], str | None]] = []
        for row in range(len(labels)):
            names = tuple(self.label_names[column] for column in np.flatnonzero(unlike[row]))
            best = int(elsewhere[row].argmax())
            other = self.label_names[best] if names and np.isfinite(elsewhere[row, best]) else None
            results.append((names, other))
        return results


def gate_folds(
    labels: npt.NDArray[np.float32], patients: npt.NDArray[np.generic], folds: int, seed: int
) -> IntArray:
    """Patient-disjoint, label-stratified folds of training records, 1 to `folds`: (n,).

    With fewer patients than folds there is a fold per patient.

    Raises:
        CorpusError: fewer than two patients.
    """
    count = min(folds, len(np.unique(patients)))
    if count < 2:
        raise CorpusError(
            f"expected training records of at least 2 patients, got {count}; learn from more "
            "records"
        )
    return stratified_folds(labels, patients, count, seed) + 1


def verdicts(
    label_names: Sequence[str],
    labels: npt.NDArray[np.float32],
    intervals: Sequence[Intervals] | None,
    judged: Sequence[tuple[tuple[str, ...], str | None]] | None,
) -> list[GateVerdict]:
    """Verdict on each record.

    Args:
        label_names: names of the K labels.
        labels: (m, K).
        intervals: measurements of each record; None to judge without rules.
        judged: findings of `GateClassifiers.judge`; None to judge without classifier.

    Raises:
        CorpusError: the numbers of records differ.
    """
    for given in (intervals, judged):
        if given is not None and len(given) != len(labels):
            raise CorpusError(
                f"expected findings on each of {len(labels)} records, got {len(given)}"
            )
    results = []
    for row in range(len(labels)):
        names = [
            name for name, stated in zip(label_names, labels[row], strict=True) if stated >= 0.5
        ]
        broken = () if intervals is None else broken_rules(intervals[row], names)
        unlike, assigned = ((), None) if judged is None else judged[row]
        results.append(GateVerdict(broken, unlike, assigned))
    return results


def gate_counts(
    label_names: Sequence[str],
    given: Sequence[tuple[Sequence[str], GateVerdict]],
    recorded: Sequence[tuple[Sequence[str], tuple[str, ...] | None]],
    error: float | None,
) -> tuple[GateCount, ...]:
    """Count verdicts per class, for classes with synthetic records.

    Args:
        label_names: names of the classes, in the order of the result.
        given: labels and verdict of each synthetic record.
        recorded: labels of each recorded training record and, if rules are asked for, the labels
            whose rule it breaks.
        error: p-value below which the classifier rejects; None for a gate without a classifier.
    """
    results = []
    for name in label_names:
        own = [verdict for labels, verdict in given if name in labels]
        if not own:
            continue
        assigned: dict[str, int] = {}
        for verdict in own:
            if name in verdict.unlike and verdict.assigned is not None:
                assigned[verdict.assigned] = assigned.get(verdict.assigned, 0) + 1
        here = [breaks for labels, breaks in recorded if name in labels]
        with_rule = name in RULES and all(breaks is not None for breaks in here)
        results.append(
            GateCount(
                label=name,
                generated=len(own),
                passed=sum(verdict.passed for verdict in own),
                broken=sum(name in verdict.broken for verdict in own),
                unlike=sum(name in verdict.unlike for verdict in own),
                assigned=dict(sorted(assigned.items(), key=lambda item: -item[1])),
                rule=RULES[name].sentence if name in RULES else None,
                recorded=len(here),
                recorded_broken=(
                    sum(name in breaks for breaks in here if breaks is not None)
                    if with_rule
                    else None
                ),
                judged=error is not None and can_judge(len(here), error),
            )
        )
    return tuple(results)
