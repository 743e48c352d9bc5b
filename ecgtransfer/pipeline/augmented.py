"""Stages `augment-<name>`: synthetic records to add to the target's training records.

RUN/<name>-<method>               synthetic records of the first round, a set as `generate` makes it
RUN/<name>-round-2-<method>, ...  further rounds, in place of records that the gate dropped
RUN/augment-<name>/gate-1.csv     verdict of the gate on each record of a round
RUN/augment-<name>/recorded.csv   rules that recorded training records break
RUN/augment-<name>/classifiers    the classifiers of the gate, cross-fitted over training patients
RUN/augment-<name>/card.json      settings and counts
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.evaluation import measure_intervals
from ecgtransfer.evaluation.gate import (
    GateClassifiers,
    GateCount,
    GateSettings,
    GateVerdict,
    broken_rules,
    gate_counts,
    gate_folds,
    verdicts,
)
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.pipeline.evaluation import ProgressReporter
from ecgtransfer.pipeline.methods import stage_name
from ecgtransfer.pipeline.run import Run, Stage
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.synthetic import (
    SET,
    GenerateSettings,
    SamplerSettings,
    only_method,
    synthesise,
    synthetic_stage,
)
from ecgtransfer.pipeline.target import Target, project_labels
from ecgtransfer.statistics import streams
from ecgtransfer.storage import atomic_file
from ecgtransfer.synthesis import (
    Combination,
    check_amounts,
    records_to_add,
    records_to_generate,
)
from ecgtransfer.transfer.methods import transfer_method

#: First word of the stages' names.
AUGMENT = "augment"
#: Synthetic records per recorded training record, where nothing else is asked for.
DEFAULT_RATIO = 1.0
#: Rounds of generation; what the gate drops in the first is generated again in the others.
ROUNDS = 3
#: Ends, with a number, the name of the synthetic set of a further round.
ROUND = "-round-"
#: Lowest share of passing records that a round is sized for: at most four times what is lacking.
LOWEST_SHARE = 0.25
#: Folds of the training records: of the column `fold`, and of the classifiers of the gate.
FOLDS = 5
#: Separates labels in the gate's tables, as in counts on the command line.
PLUS = "+"
CLASSIFIERS, RECORDED = "classifiers", "recorded.csv"


@dataclass(frozen=True)
class AugmentSettings:
    """Settings of an augmentation.

    Attributes:
        ratio: synthetic records per recorded training record, in their mix of labels; 1 if nothing
            else is asked for.
        at_least: fewest records of each class, recorded and synthetic ones together.
        balance: whether each class gets as many records as the most frequent one.
        method: transfer whose model generates; None takes the only one of the run.
        name: name of the synthetic set in the run.
        gate: settings of the quality gate; None keeps every record.
        sampler: solver, steps and label scale.
        seed: seed of records, folds and classifiers.
    """

    ratio: float | None = None
    at_least: int | None = None
    balance: bool = False
    method: str | None = None
    name: str = "augmented"
    gate: GateSettings | None = field(default_factory=GateSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ratio is None and self.at_least is None and not self.balance:
            object.__setattr__(self, "ratio", DEFAULT_RATIO)
        check_amounts(self.ratio, self.at_least, self.balance)
        GenerateSettings(per_class=1, name=self.name, method=self.method, sampler=self.sampler)
        if re.search(rf"{ROUND}\d+$", self.name):
            raise ConfigError(
                f"expected a name that does not end with {ROUND} and a number, which names the "
                f"further rounds of another augmentation, got {self.name!r}; choose another name"
            )
        if self.method is not None:
            transfer_method(self.method)


@dataclass(frozen=True)
class Round:
    """One round of generation.

    Attributes:
        name: name of its synthetic set.
        fingerprint: fingerprint of that set.
        generated: number of its records.
        passed: those that passed the gate.
    """

    name: str
    fingerprint: str
    generated: int
    passed: int


@dataclass(frozen=True)
class AugmentSummary:
    """Result of an augmentation.

    Attributes:
        method: transfer whose model generated.
        train_records: recorded training records of the split.
        test_records: recorded test records of the split.
        wanted: number of synthetic records asked for, by combination of labels ("CRBBB+PVC").
        added: number that passed the gate and are added.
        not_generated: training records of combinations that the model does not know or that have
            no label; no synthetic record is added to them.
        recorded: recorded training records of each class.
        synthetic: added synthetic records of each class.
        weight: weight of a synthetic record beside 1 of a recorded one.
        rounds: rounds of generation.
        gate: numbers of each class; empty without a gate.
    """

    method: str
    train_records: int
    test_records: int
    wanted: dict[str, int]
    added: dict[str, int]
    not_generated: dict[str, int]
    recorded: dict[str, int]
    synthetic: dict[str, int]
    weight: float
    rounds: tuple[Round, ...]
    gate: tuple[GateCount, ...]

    @property
    def synthetic_records(self) -> int:
        """Number of added records."""
        return sum(self.added.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the user should read."""
        short = {
            names: (self.added.get(names, 0), count)
            for names, count in self.wanted.items()
            if self.added.get(names, 0) < count
        }
        sentences = []
        if short:
            listed = ", ".join(f"{names} {got} of {count}" for names, (got, count) in short.items())
            sentences.append(
                f"after {len(self.rounds)} rounds fewer synthetic records passed the quality gate "
                f"than asked for: {listed}; ask for fewer, or look at them before you switch the "
                "gate off with --no-gate, the same --run, and another --name and --to"
            )
        unknown = {names: count for names, count in self.not_generated.items() if names}
        if unknown:
            sentences.append(
                "the source model does not know some labels, so no synthetic record is added to "
                + ", ".join(f"{names} ({count} recorded)" for names, count in unknown.items())
            )
        if not_judged := [each for each in self.gate if not each.judged]:
            sentences.append(
                "whether synthetic records resemble recorded ones of their class was not judged "
                "for "
                + ", ".join(f"{each.label} ({each.recorded} recorded)" for each in not_judged)
            )
        return tuple(sentences)


@dataclass(frozen=True, eq=False)
class Augmentation:
    """A finished augmentation of a run's target.

    Attributes:
        run: the run.
        target: its target.
        settings: what was asked for, with the method.
        summary: the result.
        fingerprint: fingerprint of settings and inputs.
    """

    run: Run
    target: Target
    settings: AugmentSettings
    summary: AugmentSummary
    fingerprint: str

    @property
    def stage(self) -> Stage:
        """The stage of the run."""
        return self.run.stage(augment_stage(self.settings.name))

    @cached_property
    def folds(self) -> np.ndarray:
        """Patient-disjoint fold of each training record, from 1: (n,)."""
        return training_folds(self.target, self.settings.seed)

    def kept(self) -> list[tuple[ECGSet, np.ndarray]]:
        """Synthetic set of each round, and the indices of its records that are added.

        Raises:
            RunError: a set has changed since.
        """
        room = {tuple(names.split(PLUS)): n for names, n in self.summary.wanted.items()}
        chosen = []
        for number, each in enumerate(self.summary.rounds, 1):
            ecgset = ECGSet.open(round_folder(self.run, each.name, self.summary.method))
            if ecgset.fingerprint != each.fingerprint:
                raise RunError(
                    f"expected in {ecgset.folder} the set with fingerprint "
                    f"{each.fingerprint[:12]} that was judged, got {ecgset.fingerprint[:12]}; "
                    f"remove {self.stage.folder} to judge it again"
                )
            passed = [v.passed for v in read_verdicts(self.stage.folder, number, len(ecgset))]
            chosen.append((ecgset, _first(ecgset, passed, room)))
        return chosen


def augment(
    run: Run,
    source: Source,
    target: Target,
    settings: AugmentSettings,
    reporter: ProgressReporter,
    workers: int = 1,
) -> Augmentation:
    """Generate and judge the synthetic records that a target needs, or find it done.

    An interrupted call resumes. Test records take no part: numbers follow the training records,
    classifiers are trained on them.

    Args:
        run: with a finished transfer.
        source: its source.
        target: its target.
        settings: what is asked for.
        reporter: shows progress.
        workers: processes that measure records.

    Raises:
        ConfigError: nothing to add, or an option out of range.
        RunError: no finished transfer, or an augmentation of that name with other settings.
    """
    method = settings.method or only_method(run)
    settings = replace(settings, method=method)
    wanted = wanted_records(source, target, settings)
    stage = run.stage(augment_stage(settings.name))
    inputs = {
        "augment": settings,
        "target": target.fingerprint,
        "model": _model_fingerprint(run, source, method),
    }
    if not stage.begin(inputs):
        gate = _Gate(target, settings, stage.folder, reporter, workers)
        drawn = _generate(run, source, settings, wanted, gate, reporter)
        stage.finish(_summary(source, target, settings, wanted, drawn, gate))
    summary = stage.read(AugmentSummary, "results")
    return Augmentation(run, target, settings, summary, stage.read(str, "fingerprint"))


def wanted_records(
    source: Source, target: Target, settings: AugmentSettings
) -> dict[Combination, int]:
    """Number of synthetic records to add, by combination of labels.

    Raises:
        ConfigError: nothing to add.
    """
    return records_to_add(
        combinations(target),
        ratio=settings.ratio,
        at_least=settings.at_least,
        balance=settings.balance,
        known=source.known_labels,
    )


def combinations(target: Target) -> dict[Combination, int]:
    """Number of training records of each combination of labels, sorted by name."""
    counted = Counter(map(target.label_space.decode, target.labels[target.train]))
    return dict(sorted(counted.items()))


def synthetic_weight(recorded: int, synthetic: int) -> float:
    """Weight of a synthetic record: 1, or less, so that all weigh at most as much as the recorded.

    It is the balance with which `evaluate utility` trains its classifiers: half of each batch.
    """
    return min(1.0, recorded / synthetic)


def training_folds(target: Target, seed: int) -> np.ndarray:
    """Patient-disjoint, label-stratified folds of the training records, from 1: (n,)."""
    patients = target.ecgset.records.patient.iloc[target.train].astype(str).to_numpy()
    return gate_folds(target.labels[target.train], patients, FOLDS, seed)


def augment_stage(name: str) -> str:
    """Name of the stage folder."""
    return f"{AUGMENT}-{name}"


def round_name(name: str, number: int) -> str:
    """Name of the synthetic set of a round, from 1."""
    return name if number == 1 else f"{name}{ROUND}{number}"


def round_folder(run: Run, name: str, method: str) -> Path:
    """Folder of the synthetic set of a round."""
    return run.stage(synthetic_stage(name, method)).folder / SET


def _model_fingerprint(run: Run, source: Source, method: str) -> str:
    """Fingerprint of what generates."""
    stage = run.stage(stage_name(method))
    if method == "source" and not stage.is_done:
        return source.fingerprint
    return stage.read(str, "fingerprint")


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Synthetic records of all rounds: rounds, labels and verdict of each record, and counts."""

    rounds: list[Round] = field(default_factory=list)
    judged: list[tuple[Combination, GateVerdict]] = field(default_factory=list)

    def count(self, *, passed: bool) -> Counter[Combination]:
        """Number of records, or of those that passed, by combination."""
        return Counter(names for names, verdict in self.judged if verdict.passed or not passed)


def _generate(
    run: Run,
    source: Source,
    settings: AugmentSettings,
    wanted: Mapping[Combination, int],
    gate: "_Gate",
    reporter: ProgressReporter,
) -> _Drawn:
    """Generate and judge, round by round, until nothing is lacking."""
    drawn = _Drawn()
    for number in range(1, ROUNDS + 1):
        kept, generated = drawn.count(passed=True), drawn.count(passed=False)
        lacking = {names: count - kept[names] for names, count in wanted.items()}
        numbers = records_to_generate(lacking, kept, generated, LOWEST_SHARE)
        if not numbers:
            break
        asked = GenerateSettings(
            counts=tuple(f"{PLUS.join(names)}={count}" for names, count in numbers.items()),
            method=settings.method,
            name=round_name(settings.name, number),
            sampler=settings.sampler,
            seed=_round_seed(settings.seed, number),
        )
        task = "synthetic records" if number == 1 else f"synthetic records, round {number}"
        with reporter.progress(task) as progress:
            ecgset = synthesise(run, source, asked, progress)
        found = gate.judge(ecgset, number)
        names_of = [ecgset.label_space.decode(row) for row in ecgset.labels]
        drawn.judged.extend(zip(names_of, found, strict=True))
        passed = sum(verdict.passed for verdict in found)
        drawn.rounds.append(Round(asked.name, ecgset.fingerprint, len(ecgset), passed))
    return drawn


def _round_seed(seed: int, number: int) -> int:
    """Seed of a round; the first has that of the augmentation, as `generate` with the same one."""
    if number == 1:
        return seed
    return int(streams.generator(seed, streams.AUGMENT_ROUNDS, number).integers(2**31))


def _summary(
    source: Source,
    target: Target,
    settings: AugmentSettings,
    wanted: Mapping[Combination, int],
    drawn: _Drawn,
    gate: "_Gate",
) -> AugmentSummary:
    kept, recorded = drawn.count(passed=True), combinations(target)
    known = set(source.known_labels)
    added = {names: min(count, kept[names]) for names, count in wanted.items()}
    number = sum(added.values())
    if number == 0:
        raise RunError(
            f"expected synthetic records that pass the quality gate, got none of "
            f"{len(drawn.judged)}; look at {gate.folder}, or switch the gate off with --no-gate, "
            "the same --run, and another --name and --to"
        )

    def of_classes(counts: Mapping[Combination, int]) -> dict[str, int]:
        return {
            name: sum(count for names, count in counts.items() if name in names)
            for name in target.label_space.names
        }

    return AugmentSummary(
        method=str(settings.method),
        train_records=len(target.train),
        test_records=len(target.test),
        wanted=_by_text(wanted),
        added=_by_text(added),
        not_generated=_by_text(
            {n: count for n, count in recorded.items() if not n or not set(n) <= known}
        ),
        recorded=of_classes(recorded),
        synthetic=of_classes(added),
        weight=synthetic_weight(len(target.train), number),
        rounds=tuple(drawn.rounds),
        gate=gate.counts(drawn.judged),
    )


def _by_text(counts: Mapping[Combination, int]) -> dict[str, int]:
    return {PLUS.join(names): count for names, count in counts.items()}


def _first(ecgset: ECGSet, passed: Sequence[bool], lacking: dict[Combination, int]) -> np.ndarray:
    """Indices of passed records while their combination is lacking, which is updated."""
    chosen = []
    for index, (row, keep) in enumerate(zip(ecgset.labels, passed, strict=True)):
        names = ecgset.label_space.decode(row)
        if keep and lacking.get(names, 0) > 0:
            lacking[names] -= 1
            chosen.append(index)
    return np.array(chosen, np.int64)


class _Gate:
    """The gate of one augmentation; what it has judged is read from its folder."""

    def __init__(
        self,
        target: Target,
        settings: AugmentSettings,
        folder: Path,
        reporter: ProgressReporter,
        workers: int,
    ) -> None:
        self.target, self.settings, self.gate = target, settings, settings.gate
        self.folder, self.reporter, self.workers = folder, reporter, workers

    @cached_property
    def classifiers(self) -> GateClassifiers:
        """Cross-fitted over the training records, and over no others."""
        assert self.gate is not None
        target = self.target
        records = LabelledRecords(
            target.ecgset.independent_mv(target.train), target.labels[target.train]
        )
        with self.reporter.progress("classifiers of the quality gate") as progress:
            return GateClassifiers.fit(
                records,
                target.label_space.names,
                training_folds(target, self.settings.seed),
                self.gate.training,
                self.folder / CLASSIFIERS,
                self.settings.seed,
                progress,
            )

    def judge(self, ecgset: ECGSet, number: int) -> list[GateVerdict]:
        """Verdict on each record of a round, or read them."""
        if (self.folder / gate_file(number)).exists():
            return read_verdicts(self.folder, number, len(ecgset))
        signals_mv, names = ecgset.independent_mv(), self.target.label_space.names
        labels = project_labels(self.target.label_space, ecgset)
        intervals = judged = None
        if self.gate is not None and self.gate.rules:
            with self.reporter.progress("rules of the classes") as progress:
                intervals = measure_intervals(
                    signals_mv, ecgset.sampling_rate_hz, workers=self.workers, progress=progress
                )
        if self.gate is not None and self.gate.classifier:
            judged = self.classifiers.judge(signals_mv, labels, self.gate.error)
        found = verdicts(names, labels, intervals, judged)
        rows = [
            (index, PLUS.join(v.broken), PLUS.join(v.unlike), v.assigned or "")
            for index, v in enumerate(found)
        ]
        _write_rows(self.folder / gate_file(number), GATE_COLUMNS, rows)
        return found

    def counts(self, judged: Sequence[tuple[Combination, GateVerdict]]) -> tuple[GateCount, ...]:
        """Numbers of each class; none without a gate."""
        if self.gate is None:
            return ()
        error = self.gate.error if self.gate.classifier else None
        return gate_counts(self.target.label_space.names, judged, self._recorded(), error)

    def _recorded(self) -> list[tuple[Combination, tuple[str, ...] | None]]:
        """Labels of each training record, and those whose rule it breaks."""
        target = self.target
        names = [target.label_space.decode(row) for row in target.labels[target.train]]
        if self.gate is None or not self.gate.rules:
            return [(each, None) for each in names]
        path = self.folder / RECORDED
        if not path.exists():
            with self.reporter.progress("rules of the recorded records") as progress:
                intervals = measure_intervals(
                    target.ecgset.independent_mv(target.train),
                    target.ecgset.sampling_rate_hz,
                    workers=self.workers,
                    progress=progress,
                )
            found = [broken_rules(*each) for each in zip(intervals, names, strict=True)]
            _write_rows(
                path, ("record", "broken"), [(k, PLUS.join(each)) for k, each in enumerate(found)]
            )
        return [
            (each, _labels(row["broken"]))
            for each, row in zip(names, _read_rows(path, len(names)), strict=True)
        ]


#: Columns of the table of a round.
GATE_COLUMNS = ("record", "broken", "unlike", "assigned")


def gate_file(number: int) -> str:
    """Name of the table of a round, from 1."""
    return f"gate-{number}.csv"


def read_verdicts(folder: Path, number: int, records: int) -> list[GateVerdict]:
    """Verdicts of a round.

    Raises:
        RunError: the table is missing or has another number of records.
    """
    return [
        GateVerdict(_labels(row["broken"]), _labels(row["unlike"]), row["assigned"] or None)
        for row in _read_rows(folder / gate_file(number), records)
    ]


def _labels(text: str) -> tuple[str, ...]:
    return tuple(text.split(PLUS)) if text else ()


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _read_rows(path: Path, expected: int) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RunError(
            f"expected the verdicts of the quality gate in {path}, could not read them "
            f"({error.strerror}); remove {path.parent} and run the same command again"
        ) from None
    if len(rows) != expected:
        raise RunError(
            f"expected {expected} verdicts in {path}, found {len(rows)}; remove {path.parent} and "
            "run the same command again"
        )
    return rows
