"""`ecgtransfer evaluate`: four evaluations of synthetic sets, and a test for clinicians."""

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
from .console import Json, Output, Quiet, Table, add_command

app = typer.Typer(
    name="evaluate",
    help="Evaluate synthetic sets; each result is compared with that of real records.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RunFolder = Annotated[Path, typer.Argument(help="Run folder with a synthetic set.")]
Method = Annotated[
    list[str] | None,
    typer.Option(help="Transfer method to evaluate; repeat for several; default: all of the run."),
]
Name = Annotated[str, typer.Option(help="Name of the synthetic sets.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps of each classifier.")]
Folds = Annotated[
    int, typer.Option(min=2, help="Folds of the cross-fitting that sets the decision thresholds.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Number of classifiers trained per arm.")]
Ratio = Annotated[
    list[float] | None,
    typer.Option(help="Synthetic records per target record; repeat for several."),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        help=f"Baseline training set: {', '.join(ARMS)} or none; repeat for several; default: all.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes or threads; default: one per core.")
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
    """Test whether synthetic records improve a classifier of held-out target patients.

    The full study trains hundreds of classifiers; fewer arms, ratios and seeds take less time.

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
    opened = _open(run)
    if not arm:
        settings = _available_arms(output, opened[1], settings)
    _evaluate(output, opened, settings)


def fidelity(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    classifier_steps: Steps = CLASSIFIER_STEPS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how closely synthetic records resemble the target's.

    References are two halves of the real target records, and the source's records.

    Example: ecgtransfer evaluate fidelity runs/clinic
    """
    settings = pipeline.FidelitySettings(
        tuple(method or ()), name, evaluation.ClassifierConfig(steps=classifier_steps), seed
    )
    output = Output(json, quiet)
    _evaluate(output, _open(run), settings)


def physiology(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    records: Annotated[
        int, typer.Option(min=1, help="Largest number of real, and of synthetic, records.")
    ] = LARGEST_COHORT,
    workers: Workers = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check the physiology of synthetic records: intervals, and the rules of each class.

    Example: ecgtransfer evaluate physiology runs/clinic
    """
    settings = pipeline.PhysiologySettings(tuple(method or ()), name, records, seed)
    output = Output(json, quiet)
    _evaluate(output, _open(run), settings, workers=workers)


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
    """Search for leaks of training patients: copies, closest records, membership inference.

    Example: ecgtransfer evaluate privacy runs/clinic
    """
    settings = pipeline.PrivacySettings(
        tuple(method or ()), name, evaluation.ClassifierConfig(steps=classifier_steps), seed
    )
    output = Output(json, quiet)
    _evaluate(output, _open(run), settings, workers=workers)


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
    """Run all four evaluations, the quick ones first; finished ones are only printed.

    Example: ecgtransfer evaluate all runs/clinic --seeds 5
    """
    methods = tuple(method or ())
    classifier = evaluation.ClassifierConfig(steps=classifier_steps)
    utility = pipeline.UtilitySettings(
        methods=methods, name=name, seeds=seeds, classifier=classifier, seed=seed
    )
    output = Output(json, quiet)
    opened = _open(run)
    _evaluate(
        output,
        opened,
        pipeline.PrivacySettings(methods, name, classifier, seed),
        pipeline.FidelitySettings(methods, name, classifier, seed),
        pipeline.PhysiologySettings(methods, name, seed=seed),
        _available_arms(output, opened[1], utility),
        workers=workers,
    )


for command in (utility, fidelity, physiology, privacy, blind):
    add_command(app, command)
add_command(app, everything, name="all")


def _available_arms(
    output: Output, source: "pipeline.Source", settings: "pipeline.UtilitySettings"
) -> "pipeline.UtilitySettings":
    """Drop the arms that train on source records if these are not available, with a warning."""
    if source.location is not None:
        return settings
    output.warn(
        "the source records are not available, so no classifier is trained on them; for the "
        "strongest baseline, prepare them and pass the set to 'transfer --source-set'"
    )
    arms = tuple(arm for arm in settings.arms if arm not in pipeline.OF_SOURCE_RECORDS)
    return replace(settings, arms=arms)


def _open(folder: Path) -> "tuple[pipeline.Run, pipeline.Source, pipeline.Target]":
    run = pipeline.Run.open(folder)
    source = pipeline.load_source(run)
    return run, source, pipeline.load_target(run, source)


def _evaluate(
    output: Output,
    opened: "tuple[pipeline.Run, pipeline.Source, pipeline.Target]",
    *questions: "pipeline.QuestionSettings",
    workers: int | None = None,
) -> None:
    """Run evaluations of the sets of a run; print the tables, then the verdicts, of each."""
    cores = workers or training.available_cores()
    answers = pipeline.evaluate_all(*opened, questions, output, cores)
    parts: list[Table | str] = []
    for answer in answers:
        for table in answer.tables:
            header, *rows = table.texts()
            parts.append(Table(table.title, header, rows))
        parts += [finding.sentence for finding in (*answer.tests, *answer.verdicts)]
    output.result({answer.question: answer.to_json() for answer in answers}, *parts)
