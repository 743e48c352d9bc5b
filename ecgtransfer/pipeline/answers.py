"""What is asked about synthetic sets: each question is a stage `<question>-<name of the sets>`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet, LabelSpace
from ecgtransfer.defaults import LARGEST_SIDE
from ecgtransfer.drawing import Table
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.evaluation import LabelledRecords
from ecgtransfer.pipeline.run import CARD, Run, Stage
from ecgtransfer.pipeline.seen import corpus_name
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.synthetic import (
    SET,
    STAND_IN_SET,
    GenerateSettings,
    counts_like,
    synthesise,
    synthetic_stage,
)
from ecgtransfer.pipeline.target import Target, labels_in
from ecgtransfer.statistics import (
    Verdict,
    streams,
)
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.transfer.methods import METHODS, transfer_method

#: The questions, in the order in which a report answers them.
QUESTIONS = ("utility", "fidelity", "physiology", "privacy")

#: Version of the statistics that verdicts rest on. Answers of version 1 held arms of different
#: recipes against each other, kept rules by point estimates and passed what was undecided.
ANSWER_VERSION = 2

#: Records that the source model draws where its own are not here, about so many, one set
#: (`STAND_IN_SET`) for all questions about a run.
STAND_INS = 500


@dataclass(frozen=True)
class _TableCard:
    """What the card of an answer holds of a table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str


@dataclass(frozen=True)
class Answer:
    """What a question came to, as the card of its stage holds it.

    Attributes:
        question: one of `QUESTIONS`.
        verdicts: one a method, in a sentence, with whether it is good news.
        tests: what they rest on, in sentences, too.
        tables: for people.
        numbers: every number, by method where it is one method's.
    """

    question: str
    verdicts: tuple[Verdict, ...]
    tests: tuple[Verdict, ...]
    tables: tuple[Table, ...]
    numbers: Mapping[str, Any] = field(repr=False)

    def to_card(self) -> dict[str, object]:
        """Plain values for the card of the stage."""
        return {
            "version": ANSWER_VERSION,
            "verdicts": to_card(self.verdicts),
            "tests": to_card(self.tests),
            "tables": [table.to_dict() for table in self.tables],
            "numbers": self.numbers,
        }

    @classmethod
    def from_card(cls, question: str, results: Mapping[str, Any], file: Path) -> "Answer":
        """Read what `to_card` gave, from a file; RunError for an answer of another version."""
        if _version(results) != ANSWER_VERSION:
            raise RunError(
                f"the question of {question} was answered by another version of ecgtransfer, whose "
                f"verdicts follow other rules; run 'ecgtransfer evaluate {question}' on this run "
                "again, which keeps its trainings"
            )
        tables = from_card(tuple[_TableCard, ...], results, file, "tables")
        return cls(
            question,
            from_card(tuple[Verdict, ...], results, file, "verdicts"),
            from_card(tuple[Verdict, ...], results, file, "tests"),
            tuple(Table(each.title, each.header, each.rows, each.note) for each in tables),
            from_card(dict[str, Any], results, file, "numbers"),
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
        {method: stage.card["results"]["fingerprint"] for method, stage in stages.items()},
    )


def by_method(method: str, verdict: Verdict) -> Verdict:
    """A verdict that says whose set it is about."""
    return Verdict(verdict.passed, f"{method}: {verdict.sentence}")


def question_stage(run: Run, question: str, name: str) -> Stage:
    """The stage in which a question about the sets of a name is answered."""
    return run.stage(f"{question}-{name}")


def begin_answer(stage: Stage, question: str, asked: object) -> Answer | None:
    """The answer that a stage holds to what is asked; None where it is to be given now.

    One of an earlier version no longer counts: its card is kept as `card-1.json` beside the
    trainings, which serve the new answer. RunError as `Stage.begin` does.
    """
    if not stage.begin(asked):
        return None
    results = stage.card["results"]
    version = _version(results)
    if version >= ANSWER_VERSION:
        return Answer.from_card(question, results, stage.folder / CARD)
    stage.set_aside(f"card-{version}.json")
    stage.begin(asked)
    return None


def _version(results: Mapping[str, Any]) -> int:
    """The version of an answer; the first one did not state it."""
    return int(results.get("version", 1))


def asked(settings: object, sets: SyntheticSets, target: Target) -> dict[str, object]:
    """What an answer depends on."""
    return {
        "settings": settings,
        "synthetic": dict(sets.fingerprints),
        "target": target.fingerprint,
    }


def labelled(ecgset: ECGSet, labels: np.ndarray, numbers: np.ndarray) -> LabelledRecords:
    """Records of a set with labels (N, K) of all of it, for a classifier."""
    patients = ecgset.records.patient.astype(str).to_numpy()
    return LabelledRecords(ecgset.independent_mv(numbers), labels[numbers], patients[numbers])


def labelled_synthetic(space: LabelSpace, ecgset: ECGSet) -> LabelledRecords:
    """All records of a synthetic set in a label space, each a patient of its own."""
    return LabelledRecords(ecgset.independent_mv(), labels_in(space, ecgset))


def labelled_source(
    run: Run, source: Source, target: Target, most: int | None = None, seed: int = 0
) -> LabelledRecords:
    """The source's training records, or at most so many of them, drawn at random.

    Patients of another set than the target's are other people, even where they count alike. Where
    the records are not here, ones that the source model draws stand in for them (`stand_ins`).
    """
    if source.location is None:
        return labelled_synthetic(target.label_space, stand_ins(run, source, target))
    ecgset, train, _ = source.records()
    labels = labels_in(target.label_space, ecgset, drop_others=True)
    train = train[labels[train].any(axis=1)]
    if most is not None and len(train) > most:
        rng = streams.generator(seed, streams.KNOWN_SOURCE)
        train = np.sort(rng.permutation(train)[:most])
    records = labelled(ecgset, labels, train)
    same_corpus = corpus_name(ecgset) is not None and corpus_name(ecgset) == corpus_name(
        target.ecgset
    )
    if ecgset.fingerprint == target.ecgset.fingerprint or same_corpus or records.patients is None:
        return records
    apart = np.array([f"source {patient}" for patient in records.patients])
    return replace(records, patients=apart)


def stand_ins(run: Run, source: Source, target: Target) -> ECGSet:
    """Records that the source model draws, with the labels of the target's training records."""
    ratio = STAND_INS / len(target.train)
    counts = counts_like(target, source, ratio, known=source.known_labels)
    settings = GenerateSettings(
        counts=counts, method="source", name=STAND_IN_SET, of_evaluation=True
    )
    return synthesise(run, source, settings)


def told_of_stand_ins(source: Source) -> tuple[Verdict, ...]:
    """A sentence for the reader where drawn records stand in for the source's own."""
    if source.location is not None:
        return ()
    return (
        Verdict(
            None,
            f"The source's records are not here: about {STAND_INS} that its model drew, in the mix "
            "of labels of the target's training records, stand in for them.",
        ),
    )


def some(numbers: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of some record numbers, drawn at random, in their order."""
    return np.sort(rng.permutation(numbers)[:most])


def in_the_mix_of(
    labels: np.ndarray, wanted: np.ndarray, rng: np.random.Generator, most: int = LARGEST_SIDE
) -> np.ndarray:
    """Record numbers whose classes are as frequent as in other records, without repeats.

    A set with as many records of each class differs from real patients by its class mix alone;
    a record is kept in proportion to how frequent its rarest label is among the others.

    Args:
        labels: of the records to choose from, (n, K).
        wanted: of the others, (m, K).
        rng: draws.
        most: how many to keep at most.
    """
    share_here = np.maximum(labels.mean(axis=0), 1e-9)
    ratio = wanted.mean(axis=0) / share_here
    weight = np.where(labels > 0, ratio, np.inf).min(axis=1)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    kept = np.flatnonzero(rng.random(len(labels)) * weight.max() < weight)
    return some(kept, most, rng)


def refuse_few(count: int, fewest: int, what: str) -> None:
    """One sentence where there are too few records for a question."""
    if count < fewest:
        raise ConfigError(
            f"expected at least {fewest} {what}, got {count}; generate more of each class, or "
            "train on fewer of the target's records"
        )


def first_with(labels: np.ndarray, column: int) -> int | None:
    """The first record that has this label alone, else the first that has it at all."""
    for candidates in ((labels[:, column] > 0) & (labels.sum(1) == 1), labels[:, column] > 0):
        found = np.flatnonzero(candidates)
        if len(found):
            return int(found[0])
    return None
