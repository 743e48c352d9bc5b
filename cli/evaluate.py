"""`ecgtransfer evaluate`: four questions about synthetic sets, and a test for clinicians."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import evaluation, pipeline, training
from ecgtransfer.defaults import (
    ARMS,
    CLASSIFIER_FOLDS,
    CLASSIFIER_STEPS,
    LARGEST_COHORT,
    UTILITY_SEEDS,
)

from .blind import blind
from .console import Grid, Json, Output, Quiet, add_command

app = typer.Typer(
    name="evaluate",
    help="Measure what synthetic sets are worth, each number beside that of real records.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RunFolder = Annotated[Path, typer.Argument(help="Run folder with a synthetic set.")]
Method = Annotated[list[str] | None, typer.Option(help="Whose sets; none given: all of the run.")]
Name = Annotated[str, typer.Option(help="Of the sets.")]
Seed = Annotated[int, typer.Option(min=0)]
Steps = Annotated[int, typer.Option(min=1, help="Training steps of each classifier.")]
Folds = Annotated[
    int, typer.Option(min=2, help="Parts of the cross-fitting behind the thresholds.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each arm.")]
Ratio = Annotated[
    list[float] | None,
    typer.Option(help="Synthetic records for each target record; repeat for several."),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm", help=f"Of {', '.join(ARMS)}, or none; repeat for several; not given: all."
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes or threads; none given: one a core.")
]


def utility(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    arm: Arms = None,
    ratio: Ratio = None,
    seeds: Seeds = UTILITY_SEEDS,
    classifier_steps: Steps = CLASSIFIER_STEPS,
    folds: Folds = CLASSIFIER_FOLDS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do synthetic records help a classifier of held-out target patients?

    The whole study trains hundreds of classifiers; fewer arms, ratios and seeds take less.

    Example: ecgtransfer evaluate utility runs/clinic --arm source --arm control --ratio 1 --ratio 4
    """
    settings = pipeline.UtilitySettings(
        methods=tuple(method or ()),
        name=name,
        arms=() if arm == ["none"] else tuple(arm or ARMS),
        ratios=tuple(ratio or evaluation.RATIOS),
        seeds=seeds,
        classifier=evaluation.ClassifierConfig(steps=classifier_steps, folds=folds),
        seed=seed,
    )
    output = Output(json, quiet)
    opened = _opened(run)
    if not arm:
        settings = _with_answerable_arms(output, opened[1], settings)
    _ask(output, opened, settings)


def fidelity(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    classifier_steps: Steps = CLASSIFIER_STEPS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do they look like the target's? Beside two halves of real records, and the source's.

    Example: ecgtransfer evaluate fidelity runs/clinic
    """
    settings = pipeline.FidelitySettings(
        tuple(method or ()), name, evaluation.ClassifierConfig(steps=classifier_steps), seed
    )
    output = Output(json, quiet)
    _ask(output, _opened(run), settings)


def physiology(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    records: Annotated[
        int, typer.Option(min=1, help="Records of a side, at most.")
    ] = LARGEST_COHORT,
    workers: Workers = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do they make physiological sense? Intervals, and the rules of each class.

    Example: ecgtransfer evaluate physiology runs/clinic
    """
    settings = pipeline.PhysiologySettings(tuple(method or ()), name, records, seed)
    output = Output(json, quiet)
    _ask(output, _opened(run), settings, workers=workers)


def privacy(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    classifier_steps: Steps = CLASSIFIER_STEPS,
    workers: Workers = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do they give training patients away? Copies, closest records, membership inference.

    Example: ecgtransfer evaluate privacy runs/clinic
    """
    settings = pipeline.PrivacySettings(
        tuple(method or ()), name, evaluation.ClassifierConfig(steps=classifier_steps), seed
    )
    output = Output(json, quiet)
    _ask(output, _opened(run), settings, workers=workers)


def everything(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    seeds: Seeds = UTILITY_SEEDS,
    classifier_steps: Steps = CLASSIFIER_STEPS,
    workers: Workers = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """All four questions, the quick ones first; what is answered already is told again.

    Example: ecgtransfer evaluate all runs/clinic --seeds 5
    """
    methods = tuple(method or ())
    classifier = evaluation.ClassifierConfig(steps=classifier_steps)
    utility = pipeline.UtilitySettings(
        methods=methods, name=name, seeds=seeds, classifier=classifier, seed=seed
    )
    output = Output(json, quiet)
    opened = _opened(run)
    _ask(
        output,
        opened,
        pipeline.PrivacySettings(methods, name, classifier, seed),
        pipeline.FidelitySettings(methods, name, classifier, seed),
        pipeline.PhysiologySettings(methods, name, seed=seed),
        _with_answerable_arms(output, opened[1], utility),
        workers=workers,
    )


for command in (utility, fidelity, physiology, privacy, blind):
    add_command(app, command)
add_command(app, everything, name="all")


def _with_answerable_arms(
    output: Output, source: "pipeline.Source", settings: "pipeline.UtilitySettings"
) -> "pipeline.UtilitySettings":
    """The same without the arms that learn from the source's records, where these are not here."""
    if source.location is not None:
        return settings
    output.warn(
        "the source's records are not here, so that no classifier learns from them; prepare them "
        "and name the set by 'transfer --source-set' to have the strongest baseline too"
    )
    arms = tuple(arm for arm in settings.arms if arm not in pipeline.OF_SOURCE_RECORDS)
    return replace(settings, arms=arms)


def _opened(folder: Path) -> "tuple[pipeline.Run, pipeline.Source, pipeline.Target]":
    run = pipeline.Run.open(folder)
    source = pipeline.load_source(run)
    return run, source, pipeline.load_target(run, source)


def _ask(
    output: Output,
    opened: "tuple[pipeline.Run, pipeline.Source, pipeline.Target]",
    *questions: "pipeline.QuestionSettings",
    workers: int | None = None,
) -> None:
    """Answer questions about the sets of a run; print tables, then verdicts, of each."""
    cores = workers or training.available_cores()
    answers = pipeline.evaluate_all(*opened, questions, output, cores)
    parts: list[Grid | str] = []
    for answer in answers:
        for table in answer.tables:
            header, *rows = table.texts()
            parts.append(Grid(table.title, header, rows))
        parts += [told.sentence for told in (*answer.tests, *answer.verdicts)]
    output.result({answer.question: answer.to_json() for answer in answers}, *parts)
