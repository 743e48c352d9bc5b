"""The report of a run: the four answers on one page, for reviewers and clinicians."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import load_manifest
from ecgtransfer.drawing import (
    OUTCOME_WORDS,
    Figure,
    Report,
    Section,
    Table,
    ecg_svg,
    write_report,
)
from ecgtransfer.errors import ManifestError, RunError
from ecgtransfer.evaluation import Cohorts, PrivacyEvaluation
from ecgtransfer.evaluation.cohorts import first_with_label
from ecgtransfer.pipeline.evaluation import (
    QUESTIONS,
    Answer,
    SyntheticSets,
    evaluation_cohorts,
    question_stage,
    read_answer,
    synthetic_sets,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_stage import corpus_in_words, corpus_of
from ecgtransfer.pipeline.synthetic import synthetic_stage
from ecgtransfer.pipeline.target import Target
from ecgtransfer.storage import to_card

NOT_FOR_DIAGNOSIS = (
    "A synthetic ECG is of no patient and not for diagnosis. It may look right and be wrong: use "
    "it to train and to test software, never to decide on a person."
)


@dataclass(frozen=True)
class ReportSettings:
    """What a report is to show.

    Attributes:
        name: of the synthetic sets.
        methods: whose; none takes all that were evaluated.
        with_real: draw real records of the target beside synthetic ones. Without, the page may be
            passed on as far as its numbers may.
    """

    name: str = "synthetic"
    methods: tuple[str, ...] = ()
    with_real: bool = True


def report_run(
    run: Run, source: Source, target: Target, settings: ReportSettings, folder: Path
) -> Path:
    """Write `report.html` and `report.json` on the answers that a run has; the page.

    Raises:
        RunError: no question was answered yet, no such set, or a disk that does not take it.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    answers = _answers(run, settings)
    cohorts = evaluation_cohorts(target, sets)
    sections = [_section(answer, cohorts, settings.with_real) for answer in answers]
    sections.append(_galleries(cohorts, settings.with_real))
    report = Report(
        title="What are these synthetic ECGs worth?",
        subtitle=(
            f"Set “{settings.name}” by {', '.join(sets.methods)}, target "
            f"{target.ecgset.folder.name}: {len(target.train)} records to learn from, "
            f"{len(target.test)} to test"
        ),
        made_on=date.today().isoformat(),
        sections=tuple(sections),
        methods=tuple(_methods(source, target, sets)),
        settings=_settings(run, settings.name, sets),
        licences=tuple(_licences(source, target)),
        limits=tuple(_limits(settings, target, answers)),
    )
    numbers = {answer.question: to_card(answer.evaluation) for answer in answers}
    return write_report(report, numbers, folder)


def _answers(run: Run, settings: ReportSettings) -> tuple[Answer, ...]:
    """The answers about the sets, in the order of `QUESTIONS`.

    Those of a report without real records name no training record.
    """
    stages = {name: question_stage(run, name, settings.name) for name in QUESTIONS}
    answers = tuple(read_answer(stage, name) for name, stage in stages.items() if stage.is_done)
    if not answers:
        raise RunError(
            f"expected an answered question about the sets {settings.name!r} in {run.folder}, "
            f"found none; run 'ecgtransfer evaluate all' first"
        )
    return answers if settings.with_real else tuple(map(_without_names, answers))


def _without_names(answer: Answer) -> Answer:
    if not isinstance(answer.evaluation, PrivacyEvaluation):
        return answer
    return replace(answer, evaluation=answer.evaluation.without_training_names())


def _section(answer: Answer, cohorts: Cohorts, with_real: bool) -> Section:
    """The answer to a question, with its figures before its tables."""
    question = QUESTIONS[answer.question]
    figures = question.figures(answer.evaluation, cohorts, with_real)
    return Section(
        id=question.name,
        title=question.name.capitalize(),
        question=question.asks,
        verdicts=answer.verdicts,
        body=(*figures, _tests(answer), *answer.tables),
    )


def _tests(answer: Answer) -> Table:
    """What the verdicts rest on, a row each."""
    return Table(
        "What the verdicts rest on",
        ("outcome", "test"),
        tuple((OUTCOME_WORDS[test.outcome], test.sentence) for test in answer.tests),
    )


def _galleries(cohorts: Cohorts, with_real: bool) -> Section:
    """The first record of every label, synthetic and, where allowed, real: none chosen by eye."""
    body: list[Figure | str] = [
        "The first record of each label that states it alone, where there is one. None was chosen."
    ]
    everyone = np.concatenate([cohorts.train.indices, cohorts.test.indices])
    real = replace(cohorts.train, indices=everyone)
    for column, name in enumerate(cohorts.label_names):
        shown = [(f"{name}, by {method}", each) for method, each in cohorts.synthetic.items()]
        if with_real:
            shown.insert(0, (f"{name}, a real record of the target", real))
        for title, cohort in shown:
            first = first_with_label(cohort.own_labels, column)
            if first is None:
                continue
            recording = cohort.ecgset.recording(int(cohort.indices[first]))
            mark = {"mark": ""} if cohort is real else {}
            body.append(ecg_svg(recording, title=title, description=name, **mark))
    return Section(id="galleries", title="ECGs on paper", body=tuple(body))


def _methods(source: Source, target: Target, sets: SyntheticSets) -> Iterator[str]:
    """How the records came about, in paragraphs."""
    config = source.model.config
    yield (
        f"Source model: conditional diffusion model of eight independent leads, {config.samples} "
        f"samples at {config.sampling_rate_hz:g} Hz, of {source.settings.source.name} "
        f"(selection: {', '.join(source.settings.select) or 'all records'}; fingerprint "
        f"{source.fingerprint}). The other four leads follow by Einthoven's and Goldberger's laws."
    )
    for method in sets.methods:
        card = sets.open(method).card
        yield (
            f"{method}: synthetic set of {card['records']} records, fingerprint "
            f"{sets.fingerprints[method][:12]}."
        )
    yield (
        f"Target: {target.ecgset.folder.name}, {len(target.train)} records learned from and "
        f"{len(target.test)} of other patients for tests (fingerprint {target.fingerprint}). "
        "Transfer: TGDP, Ouyang, Xie, Zha and Cheng, Transfer Learning for Diffusion Models, "
        "NeurIPS 2024, https://arxiv.org/abs/2405.16876."
    )
    yield (
        "Every interval is at patient level and covers 95 % unless it says otherwise; every "
        "distance stands beside the same distance between two groups of real patients."
    )


def _settings(run: Run, name: str, sets: SyntheticSets) -> dict[str, object]:
    """What each stage was asked for, as its card has it; and the versions."""
    held: dict[str, object] = {"ecgtransfer": version("ecgtransfer")}
    for question in QUESTIONS:
        stage = question_stage(run, question, name)
        if stage.is_done:
            held[question] = stage.read(dict[str, Any], "settings.settings")
    for method in sets.methods:
        generated = run.stage(synthetic_stage(sets.name, method))
        held[f"generate {method}"] = generated.read(dict[str, Any], "settings.generate")
    return held


def _licences(source: Source, target: Target) -> Iterator[str]:
    """Where the records are from, under which licence, and what is to be cited."""
    for role, corpus in (("Source", source.summary.corpus), ("Target", corpus_of(target.ecgset))):
        yield f"{role}: {corpus_in_words(corpus)}. {_citation(corpus['name'])}".strip()


def _citation(corpus: str) -> str:
    try:
        return " ".join(f"{each}." for each in load_manifest(corpus).citations)
    except ManifestError:
        return ""


def _limits(settings: ReportSettings, target: Target, answers: Sequence[Answer]) -> Iterator[str]:
    """What the page cannot say."""
    yield NOT_FOR_DIAGNOSIS
    answered = {answer.question for answer in answers}
    missing = [question for question in QUESTIONS if question not in answered]
    if missing:
        yield f"Not answered for this run: {', '.join(missing)}."
    if settings.with_real:
        yield (
            "This page shows real ECGs of the target's patients. Treat it as patient data; "
            "'ecgtransfer report --without-real' writes one without them."
        )
    yield (
        f"One target, one split into {len(target.train)} and {len(target.test)} records, one "
        "training of each model: intervals hold for this run's models and split, and say nothing "
        "about other hospitals, recorders or seeds of the transfer."
    )
    yield (
        "Passing the privacy tests means that these attacks found nothing with this many patients, "
        "not that nobody can be found."
    )
