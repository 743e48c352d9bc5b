"""Stages `<question>-<name>`: the evaluations of synthetic sets, with one runner for all.

RUN/<question>-<name>/card.json   settings and results of the evaluation of the sets of one name
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.drawing import Figure, Table
from ecgtransfer.errors import RunError
from ecgtransfer.evaluation import (
    Cohort,
    Cohorts,
    Evaluation,
    FidelityEvaluation,
    FidelitySettings,
    PhysiologyEvaluation,
    PhysiologySettings,
    PrivacyEvaluation,
    PrivacySettings,
    UtilityEvaluation,
    UtilitySettings,
    evaluate_fidelity,
    evaluate_physiology,
    evaluate_privacy,
    evaluate_utility,
)
from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.fidelity import figures as fidelity_figures
from ecgtransfer.evaluation.physiology import figures as physiology_figures
from ecgtransfer.evaluation.privacy import figures as privacy_figures
from ecgtransfer.evaluation.utility import figures as utility_figures
from ecgtransfer.pipeline.run import CARD, Run, Stage
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.surrogate import draw_surrogate_source, source_cohort
from ecgtransfer.pipeline.synthetic import SET, synthetic_stage
from ecgtransfer.pipeline.target import Target, project_labels
from ecgtransfer.statistics import Verdict
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.transfer.methods import METHODS, transfer_method

#: Version of the statistics and of the results on a card. Version 1 compared arms of different
#: recipes, decided rules by point estimates, and passed undecided rules. Version 2 had the same
#: numbers as version 3 under other names.
ANSWER_VERSION = 3

#: Source records that an evaluation needs: none, recorded ones only, or "any": recorded ones, and
#: surrogates if these are not on this machine.
SourceRecords = Literal["none", "recorded", "any"]


class QuestionSettings(Protocol):
    """Settings that all evaluations have."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Transfer methods to evaluate; empty for all that have a set of this name."""
        ...

    @property
    def name(self) -> str:
        """Name of the synthetic sets."""
        ...


class ProgressReporter(Protocol):
    """Shows the progress of a task."""

    def progress(self, task: str) -> AbstractContextManager[StepsDone]:
        """Show a task; the callback takes (done, total)."""
        ...


@dataclass(frozen=True)
class Question:
    """A question about synthetic sets, with the functions that answer and present it.

    Attributes:
        name: first part of the name of its stage.
        asks: the question in words, for the report.
        task: name of its progress bar.
        settings: type of its settings.
        evaluation: type of its result.
        study: function (settings, cohorts, folder, workers, progress) -> result.
        tables: function from a result to its tables.
        figures: function (result, cohorts, with real records) -> figures.
        source: function from its settings to the source records that it needs.
    """

    name: str
    asks: str
    task: str
    settings: type[Any]
    evaluation: type[Any]
    study: Callable[[Any, Cohorts, Path, int, StepsDone | None], Any]
    tables: Callable[[Any], Iterator[Table]]
    figures: Callable[[Any, Cohorts, bool], Iterator[Figure]]
    source: Callable[[Any], SourceRecords]


#: Questions by name, in the order of the report.
QUESTIONS: Mapping[str, Question] = {
    question.name: question
    for question in (
        Question(
            name="utility",
            asks="Do synthetic records improve a classifier of patients unseen in training?",
            task="classifiers",
            settings=UtilitySettings,
            evaluation=UtilityEvaluation,
            study=evaluate_utility,
            tables=utility_figures.tables,
            figures=utility_figures.figures,
            source=lambda settings: "recorded" if settings.learns_from_source else "none",
        ),
        Question(
            name="fidelity",
            asks="Do synthetic records resemble the target's?",
            task="fidelity",
            settings=FidelitySettings,
            evaluation=FidelityEvaluation,
            study=evaluate_fidelity,
            tables=fidelity_figures.tables,
            figures=fidelity_figures.figures,
            source=lambda settings: "any",
        ),
        Question(
            name="physiology",
            asks="Are synthetic records physiologically plausible?",
            task="delineation",
            settings=PhysiologySettings,
            evaluation=PhysiologyEvaluation,
            study=evaluate_physiology,
            tables=physiology_figures.tables,
            figures=physiology_figures.figures,
            source=lambda settings: "none",
        ),
        Question(
            name="privacy",
            asks="Do synthetic records reveal training patients?",
            task="privacy",
            settings=PrivacySettings,
            evaluation=PrivacyEvaluation,
            study=evaluate_privacy,
            tables=privacy_figures.tables,
            figures=privacy_figures.figures,
            source=lambda settings: "any",
        ),
    )
}


@dataclass(frozen=True)
class Answer:
    """Result of evaluating the synthetic sets of a run.

    Attributes:
        question: name of the question.
        evaluation: its result.
        surrogate_source: whether surrogate records replaced the source's records.
    """

    question: str
    evaluation: Evaluation
    surrogate_source: bool = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict per method."""
        return self.evaluation.verdicts()

    @property
    def tests(self) -> tuple[Verdict, ...]:
        """Verdicts of the single tests behind them, with a note on surrogate source records."""
        if not self.surrogate_source:
            return self.evaluation.tests()
        note = (
            "The source's records are not on this machine. Records sampled from the source model, "
            "with the class mix of the target's training records, replace them."
        )
        return (*self.evaluation.tests(), Verdict(None, note))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables of the results."""
        return tuple(QUESTIONS[self.question].tables(self.evaluation))

    def to_card(self) -> dict[str, object]:
        """Return the results in the form that `from_card` reads."""
        return {
            "version": ANSWER_VERSION,
            "evaluation": to_card(self.evaluation),
            "surrogate_source": self.surrogate_source,
        }

    def to_json(self) -> dict[str, object]:
        """Return verdicts, tables and all numbers, for other programs."""
        return {
            "verdicts": to_card(self.verdicts),
            "tests": to_card(self.tests),
            "tables": [table.to_dict() for table in self.tables],
            "numbers": to_card(self.evaluation),
        }

    @classmethod
    def from_card(cls, question: str, results: Mapping[str, Any], file: Path) -> "Answer":
        """Read results that `to_card` wrote.

        Raises:
            RunError: the results are of another version.
            StorageError: a field is missing, unknown or wrong.
        """
        if _version(results) != ANSWER_VERSION:
            raise RunError(
                f"the evaluation of {question} was made by another version of ecgtransfer, whose "
                f"verdicts follow other rules; run 'ecgtransfer evaluate {question}' on this run "
                "again, which keeps its trainings"
            )
        return cls(
            question,
            from_card(QUESTIONS[question].evaluation, results, file, "evaluation"),
            from_card(bool, results, file, "surrogate_source"),
        )


@dataclass(frozen=True)
class SyntheticSets:
    """Finished synthetic sets of one name, by method, in the order of `METHODS`.

    Attributes:
        name: name of the sets.
        folders: folder of each set, by method.
        fingerprints: fingerprint of each set, by method.
    """

    name: str
    folders: Mapping[str, Path]
    fingerprints: Mapping[str, str]

    @property
    def methods(self) -> tuple[str, ...]:
        """Transfer methods of the sets."""
        return tuple(self.folders)

    def open(self, method: str) -> ECGSet:
        """Open the set of a method."""
        return ECGSet.open(self.folders[method])


def synthetic_sets(run: Run, name: str, methods: Sequence[str] = ()) -> SyntheticSets:
    """Find the sets of a name by these methods, or by all methods with a finished set.

    Raises:
        ConfigError: a method is unknown.
        RunError: a set is not finished, or there is none.
    """
    for method in methods:
        transfer_method(method)
    found = methods or [m for m in METHODS if run.stage(synthetic_stage(name, m)).is_done]
    if not found:
        raise RunError(
            f"expected a finished synthetic set {name!r} in {run.folder}, found none; run "
            "'ecgtransfer generate' first"
        )
    stages = {method: run.stage(synthetic_stage(name, method)) for method in found}
    return SyntheticSets(
        name,
        {method: stage.folder / SET for method, stage in stages.items()},
        {method: stage.read(str, "results.fingerprint") for method, stage in stages.items()},
    )


def evaluate(
    run: Run,
    source: Source,
    target: Target,
    settings: QuestionSettings,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> Answer:
    """Evaluate synthetic sets, or read the result if it exists.

    Args:
        run: run with the sets.
        source: source of the run.
        target: target of the run.
        settings: settings; their type selects the question.
        workers: number of processes or threads, if the evaluation can use several.
        progress: called with (done, total).

    Raises:
        ConfigError: there are too few records.
        RunError: a synthetic set is missing, the stage has other settings, or the evaluation needs
            source records and there are none.
    """
    question = question_of(settings)
    sets = synthetic_sets(run, settings.name, settings.methods)
    settings = replace(settings, methods=sets.methods)  # type: ignore[type-var]
    stage = question_stage(run, question.name, settings.name)
    wanted = question.source(settings)
    origin = None
    if wanted != "none" and not _is_answered(stage):
        if wanted == "recorded":
            source.records()
        origin = source_cohort(run, source, target)
    inputs = {"settings": settings, "synthetic": sets.fingerprints, "target": target.fingerprint}
    if stage.begin(inputs):
        if _is_answered(stage):
            return read_answer(stage, question.name)
        _set_aside(stage, inputs)
    cohorts = replace(evaluation_cohorts(target, sets), source=origin)
    evaluation = question.study(settings, cohorts, stage.folder, workers, progress)
    answer = Answer(question.name, evaluation, origin is not None and source.location is None)
    stage.finish(answer.to_card())
    return answer


def evaluate_all(
    run: Run,
    source: Source,
    target: Target,
    questions: Sequence[QuestionSettings],
    reporter: ProgressReporter,
    workers: int = 1,
    surrogate_records: int | None = None,
) -> tuple[Answer, ...]:
    """Run several evaluations, after sampling the surrogate source set if one of them needs it.

    Missing synthetic sets are refused before anything is sampled.

    Args:
        run: run with the sets.
        source: source of the run.
        target: target of the run.
        questions: settings of each evaluation.
        reporter: shows the progress.
        workers: number of processes or threads, if an evaluation can use several.
        surrogate_records: approximate size of the surrogate source set, see
            `draw_surrogate_source`.

    Raises:
        ConfigError: there are too few records.
        RunError: a synthetic set is missing, a stage has other settings, or an evaluation needs
            recorded source records and there are none.
    """
    for settings in questions:
        synthetic_sets(run, settings.name, settings.methods)
    if any(needs_surrogate_source(run, source, settings) for settings in questions):
        with reporter.progress("surrogate source records") as progress:
            draw_surrogate_source(run, source, target, progress, surrogate_records)
    answers = []
    for settings in questions:
        with reporter.progress(question_of(settings).task) as progress:
            answers.append(evaluate(run, source, target, settings, workers, progress))
    return tuple(answers)


def needs_surrogate_source(run: Run, source: Source, settings: QuestionSettings) -> bool:
    """Whether an evaluation is not done yet and needs surrogate source records."""
    question = question_of(settings)
    if source.location is not None or question.source(settings) != "any":
        return False
    return not _is_answered(question_stage(run, question.name, settings.name))


def evaluation_cohorts(target: Target, sets: SyntheticSets) -> Cohorts:
    """Return the target's records and the synthetic sets, in one label space."""

    def synthetic(ecgset: ECGSet) -> Cohort:
        labels = project_labels(target.label_space, ecgset)
        return Cohort(ecgset, labels, np.arange(len(ecgset)), None)

    return Cohorts(
        train=Cohort(target.ecgset, target.labels, target.train),
        test=Cohort(target.ecgset, target.labels, target.test),
        label_names=target.label_space.names,
        synthetic={method: synthetic(sets.open(method)) for method in sets.methods},
    )


def question_of(settings: QuestionSettings) -> Question:
    """Return the question to which settings of this type belong."""
    return next(each for each in QUESTIONS.values() if isinstance(settings, each.settings))


def question_stage(run: Run, question: str, name: str) -> Stage:
    """Return the stage of a question about the sets of a name."""
    return run.stage(f"{question}-{name}")


def read_answer(stage: Stage, question: str) -> Answer:
    """Read the result of a finished stage.

    Raises:
        RunError: the result is of another version.
    """
    return Answer.from_card(question, stage.card["results"], stage.folder / CARD)


def _is_answered(stage: Stage) -> bool:
    """Whether a stage has a result of this version or of a later one."""
    return stage.is_done and _version(stage.card["results"]) >= ANSWER_VERSION


def _set_aside(stage: Stage, inputs: object) -> None:
    """Rename a card of an earlier version, such as to `card-1.json`, and start the stage over."""
    stage.set_aside(f"card-{_version(stage.card['results'])}.json")
    stage.begin(inputs)


def _version(results: Mapping[str, Any]) -> int:
    """Version of a result; the first version did not state it."""
    return int(results.get("version", 1))
