"""Stages `<question>-<name>`: what synthetic sets are worth; one runner for every question.

RUN/<question>-<name>/card.json   the answer; its results are read back as the types they had
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
from ecgtransfer.pipeline.surrogate import (
    SURROGATE_RECORDS,
    draw_surrogate_source,
    source_cohort,
)
from ecgtransfer.pipeline.synthetic import SET, synthetic_stage
from ecgtransfer.pipeline.target import Target, labels_in
from ecgtransfer.statistics import Verdict
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.transfer.methods import METHODS, transfer_method

#: Version of the statistics that verdicts rest on, and of the results that a card holds. Version 1
#: compared arms of different recipes, kept rules by point estimates and passed what was undecided;
#: cards of version 2 held the same numbers under other names.
ANSWER_VERSION = 3

#: Source records that a question compares with: none, recorded ones alone, or surrogate ones where
#: the recorded ones are not on this machine.
SourceRecords = Literal["none", "recorded", "any"]


class QuestionSettings(Protocol):
    """Settings that every question has."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Whose synthetic sets; none takes every method that has a set of that name."""
        ...

    @property
    def name(self) -> str:
        """Of the sets."""
        ...


class ProgressReporter(Protocol):
    """Shows the progress of a task."""

    def progress(self, task: str) -> AbstractContextManager[StepsDone]:
        """A callback that takes (done, total)."""
        ...


@dataclass(frozen=True)
class Question:
    """A question about synthetic sets, and the functions that answer and draw it.

    Attributes:
        name: first part of the name of its stage.
        asks: the question in words.
        task: name of its progress bar.
        settings: type of its settings.
        evaluation: type of its answer.
        study: (settings, cohorts, folder, workers, progress) -> answer.
        tables: of an answer.
        figures: (answer, cohorts, with real records) -> figures.
        source: which source records it compares with, by its settings.
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


#: The questions by name, in the order in which a report answers them.
QUESTIONS: Mapping[str, Question] = {
    question.name: question
    for question in (
        Question(
            name="utility",
            asks="Do synthetic records help a classifier of patients that nobody learned from?",
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
            asks="Do synthetic records look like the target's?",
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
            asks="Do synthetic records make physiological sense?",
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
            asks="Do synthetic records give training patients away?",
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
    """The answer to a question about the synthetic sets of a run.

    Attributes:
        question: its name.
        evaluation: the results, by method where they are of one method.
        surrogate_source: whether surrogate records took the place of the source's own.
    """

    question: str
    evaluation: Evaluation
    surrogate_source: bool = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method, each a sentence."""
        return self.evaluation.verdicts()

    @property
    def tests(self) -> tuple[Verdict, ...]:
        """What the verdicts rest on, each a sentence."""
        if not self.surrogate_source:
            return self.evaluation.tests()
        note = (
            f"The source's records are not here: about {SURROGATE_RECORDS} that its model drew, in "
            "the mix of labels of the target's training records, stand in for them."
        )
        return (*self.evaluation.tests(), Verdict(None, note))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The numbers, for people."""
        return tuple(QUESTIONS[self.question].tables(self.evaluation))

    def to_card(self) -> dict[str, object]:
        """Results of the stage, see `from_card`."""
        return {
            "version": ANSWER_VERSION,
            "evaluation": to_card(self.evaluation),
            "surrogate_source": self.surrogate_source,
        }

    def to_json(self) -> dict[str, object]:
        """Verdicts, tables and every number, for other programs."""
        return {
            "verdicts": to_card(self.verdicts),
            "tests": to_card(self.tests),
            "tables": [table.to_dict() for table in self.tables],
            "numbers": to_card(self.evaluation),
        }

    @classmethod
    def from_card(cls, question: str, results: Mapping[str, Any], file: Path) -> "Answer":
        """Read what `to_card` wrote.

        Raises:
            RunError: an answer of another version.
            StorageError: a field is missing, unknown or wrong.
        """
        if _version(results) != ANSWER_VERSION:
            raise RunError(
                f"the question of {question} was answered by another version of ecgtransfer, whose "
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
    """The finished synthetic sets of one name, by method, in the order of `METHODS`."""

    name: str
    folders: Mapping[str, Path]
    fingerprints: Mapping[str, str]

    @property
    def methods(self) -> tuple[str, ...]:
        """Whose sets they are."""
        return tuple(self.folders)

    def open(self, method: str) -> ECGSet:
        """The set of a method."""
        return ECGSet.open(self.folders[method])


def synthetic_sets(run: Run, name: str, methods: Sequence[str] = ()) -> SyntheticSets:
    """The sets of that name by those methods; none named: all that are finished.

    Raises:
        ConfigError: no such method.
        RunError: a set that is not there, or no set at all.
    """
    for method in methods:
        transfer_method(method)
    found = methods or [m for m in METHODS if run.stage(synthetic_stage(name, m)).is_done]
    if not found:
        raise RunError(
            f"expected a finished synthetic set {name!r} in {run.folder}, found none; run "
            f"'ecgtransfer generate' first"
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
    """Answer a question about synthetic sets, or find it answered.

    Args:
        run: with the sets.
        source: of the run.
        target: of the run.
        settings: of the question; their type says which one it is.
        workers: processes or threads, where the question can use several.
        progress: called with (done, total).

    Raises:
        ConfigError: too few records for the question.
        RunError: no such synthetic set, other settings in place, or no source records where the
            question compares with them.
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
) -> tuple[Answer, ...]:
    """Answer several questions; draw the surrogate source set first if one of them needs it.

    Errors as of `evaluate`, all before anything is drawn where a set is missing.
    """
    for settings in questions:
        synthetic_sets(run, settings.name, settings.methods)
    if any(needs_surrogate_source(run, source, settings) for settings in questions):
        with reporter.progress("surrogate source records") as progress:
            draw_surrogate_source(run, source, target, progress)
    answers = []
    for settings in questions:
        with reporter.progress(question_of(settings).task) as progress:
            answers.append(evaluate(run, source, target, settings, workers, progress))
    return tuple(answers)


def needs_surrogate_source(run: Run, source: Source, settings: QuestionSettings) -> bool:
    """Whether a question that is still to be answered compares with surrogate source records."""
    question = question_of(settings)
    if source.location is not None or question.source(settings) != "any":
        return False
    return not _is_answered(question_stage(run, question.name, settings.name))


def evaluation_cohorts(target: Target, sets: SyntheticSets) -> Cohorts:
    """The target's records and the synthetic sets, in one label space."""

    def synthetic(ecgset: ECGSet) -> Cohort:
        labels = labels_in(target.label_space, ecgset)
        return Cohort(ecgset, labels, np.arange(len(ecgset)), None)

    return Cohorts(
        train=Cohort(target.ecgset, target.labels, target.train),
        test=Cohort(target.ecgset, target.labels, target.test),
        label_names=target.label_space.names,
        synthetic={method: synthetic(sets.open(method)) for method in sets.methods},
    )


def question_of(settings: QuestionSettings) -> Question:
    """The question that settings of this type belong to."""
    return next(each for each in QUESTIONS.values() if isinstance(settings, each.settings))


def question_stage(run: Run, question: str, name: str) -> Stage:
    """The stage in which a question about the sets of a name is answered."""
    return run.stage(f"{question}-{name}")


def read_answer(stage: Stage, question: str) -> Answer:
    """The answer that a finished stage holds; RunError for one of another version."""
    return Answer.from_card(question, stage.card["results"], stage.folder / CARD)


def _is_answered(stage: Stage) -> bool:
    """Whether a stage holds an answer of this version, or of a later one."""
    return stage.is_done and _version(stage.card["results"]) >= ANSWER_VERSION


def _set_aside(stage: Stage, inputs: object) -> None:
    """Keep an answer of an earlier version as `card-1.json` beside its trainings; begin anew."""
    stage.set_aside(f"card-{_version(stage.card['results'])}.json")
    stage.begin(inputs)


def _version(results: Mapping[str, Any]) -> int:
    """The version of an answer; the first one did not state it."""
    return int(results.get("version", 1))
