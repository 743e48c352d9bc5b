"""HTML report of a run: the results of all evaluations on one page."""

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
    "A synthetic ECG does not come from a patient and is not for diagnosis. It may look right and "
    "be wrong. Use it to train and test software, never for decisions about a person."
)

#: Statement on a simulated target, as in the demonstration.
SIMULATED_TARGET = "All records of the target are simulated: they come from no patient."


@dataclass(frozen=True)
class ReportSettings:
    """Settings of a report.

    Attributes:
        name: name of the synthetic sets.
        methods: transfer methods to show; empty for all that were evaluated.
        with_real: whether to show real records of the target next to synthetic ones. Without them,
            the page may be shared if its numbers may be shared.
    """

    name: str = "synthetic"
    methods: tuple[str, ...] = ()
    with_real: bool = True


def report_run(
    run: Run, source: Source, target: Target, settings: ReportSettings, folder: Path
) -> Path:
    """Write `report.html` and `report.json` on the evaluations of a run.

    Args:
        run: run with evaluated synthetic sets.
        source: source of the run.
        target: target of the run.
        settings: settings of the report.
        folder: folder to write to.

    Returns:
        The path of the page.

    Raises:
        RunError: nothing was evaluated yet, a set is missing, or a file cannot be written.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    answers = _answers(run, settings)
    cohorts = evaluation_cohorts(target, sets)
    simulated = target.ecgset.origin == "simulated"
    sections = [_section(answer, cohorts, settings.with_real) for answer in answers]
    sections.append(_galleries(cohorts, settings.with_real))
    report = Report(
        title="Evaluation of synthetic ECGs",
        subtitle=(
            f"Set “{settings.name}” by {', '.join(sets.methods)}, target "
            f"{target.ecgset.folder.name}: {len(target.train)} training records, "
            f"{len(target.test)} test records" + (f". {SIMULATED_TARGET}" if simulated else "")
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
    """Read the results for the sets, in the order of `QUESTIONS`.

    For a report without real records, names of training records are removed.
    """
    stages = {name: question_stage(run, name, settings.name) for name in QUESTIONS}
    answers = tuple(read_answer(stage, name) for name, stage in stages.items() if stage.is_done)
    if not answers:
        raise RunError(
            f"expected an evaluation of the sets {settings.name!r} in {run.folder}, found none; "
            "run 'ecgtransfer evaluate all' first"
        )
    return answers if settings.with_real else tuple(map(_without_names, answers))


def _without_names(answer: Answer) -> Answer:
    if not isinstance(answer.evaluation, PrivacyEvaluation):
        return answer
    return replace(answer, evaluation=answer.evaluation.without_training_names())


def _section(answer: Answer, cohorts: Cohorts, with_real: bool) -> Section:
    """Section of one evaluation, with its figures before its tables."""
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
    """Table of the tests, one row each."""
    return Table(
        "Tests behind the verdicts",
        ("outcome", "test"),
        tuple((OUTCOME_WORDS[test.outcome], test.sentence) for test in answer.tests),
    )


def _galleries(cohorts: Cohorts, with_real: bool) -> Section:
    """Section with the first record of each label, synthetic and, if allowed, real."""
    body: list[Figure | str] = [
        "Each plot shows the first record that has this label only, or else the first record that "
        "has it. The records were not selected in any other way."
    ]
    everyone = np.concatenate([cohorts.train.indices, cohorts.test.indices])
    real = replace(cohorts.train, indices=everyone)
    for column, name in enumerate(cohorts.label_names):
        shown = [(f"{name}, by {method}", each) for method, each in cohorts.synthetic.items()]
        if with_real:
            kind = "simulated" if real.ecgset.origin == "simulated" else "real"
            shown.insert(0, (f"{name}, a {kind} record of the target", real))
        for title, cohort in shown:
            first = first_with_label(cohort.own_labels, column)
            if first is None:
                continue
            recording = cohort.ecgset.recording(int(cohort.indices[first]))
            mark = {"mark": ""} if cohort is real else {}
            body.append(ecg_svg(recording, title=title, description=name, **mark))
    return Section(id="galleries", title="ECGs on paper", body=tuple(body))


def _methods(source: Source, target: Target, sets: SyntheticSets) -> Iterator[str]:
    """Yield paragraphs on how the records were made."""
    config = source.model.config
    yield (
        f"Source model: conditional diffusion model of eight independent leads, {config.samples} "
        f"samples at {config.sampling_rate_hz:g} Hz, trained on {source.settings.source.name} "
        f"(selection: {', '.join(source.settings.select) or 'all records'}; fingerprint "
        f"{source.fingerprint}). The other four leads follow from Einthoven's and Goldberger's "
        "laws."
    )
    for method in sets.methods:
        card = sets.open(method).card
        yield (
            f"{method}: synthetic set of {card['records']} records, fingerprint "
            f"{sets.fingerprints[method][:12]}."
        )
    yield (
        f"Target: {target.ecgset.folder.name}, {len(target.train)} training records and "
        f"{len(target.test)} test records of other patients (fingerprint {target.fingerprint}). "
        "Transfer: TGDP, Ouyang, Xie, Zha and Cheng, Transfer Learning for Diffusion Models, "
        "NeurIPS 2024, https://arxiv.org/abs/2405.16876."
    )
    yield (
        "All intervals are 95 % intervals over patients unless stated otherwise. Every distance is "
        "compared with the same distance between two groups of the target's patients."
    )


def _settings(run: Run, name: str, sets: SyntheticSets) -> dict[str, object]:
    """Settings of each stage from its card, and the version of the package."""
    found: dict[str, object] = {"ecgtransfer": version("ecgtransfer")}
    for question in QUESTIONS:
        stage = question_stage(run, question, name)
        if stage.is_done:
            found[question] = stage.read(dict[str, Any], "settings.settings")
    for method in sets.methods:
        generated = run.stage(synthetic_stage(sets.name, method))
        found[f"generate {method}"] = generated.read(dict[str, Any], "settings.generate")
    return found


def _licences(source: Source, target: Target) -> Iterator[str]:
    """Yield the corpus, licence and citations of source and target."""
    for role, corpus in (("Source", source.summary.corpus), ("Target", corpus_of(target.ecgset))):
        yield f"{role}: {corpus_in_words(corpus)}. {_citation(corpus['name'])}".strip()


def _citation(corpus: str) -> str:
    try:
        return " ".join(f"{each}." for each in load_manifest(corpus).citations)
    except ManifestError:
        return ""


def _limits(settings: ReportSettings, target: Target, answers: Sequence[Answer]) -> Iterator[str]:
    """Yield paragraphs on the limits of the report."""
    yield NOT_FOR_DIAGNOSIS
    answered = {answer.question for answer in answers}
    missing = [question for question in QUESTIONS if question not in answered]
    if missing:
        yield f"Not evaluated for this run: {', '.join(missing)}."
    if target.ecgset.origin == "simulated":
        yield SIMULATED_TARGET
    elif settings.with_real:
        yield (
            "This page shows real ECGs of the target's patients. Treat it as patient data; "
            "'ecgtransfer report --without-real' writes one without them."
        )
    yield (
        f"This run has one target, one split into {len(target.train)} training and "
        f"{len(target.test)} test records, and one training of each model. Intervals apply to "
        "these models and this split. They say nothing about other hospitals, recorders or seeds "
        "of the transfer."
    )
    yield (
        "If the privacy tests pass, these attacks found no training patient with this many "
        "patients. Other attacks may still find one."
    )
