"""`ecgtransfer evaluate`: four questions about synthetic sets, and a test for clinicians."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import evaluation, pipeline, training
from ecgtransfer.defaults import (
    ARMS,
    CLASSIFIER_FOLDS,
    CLASSIFIER_STEPS,
    LARGEST_SIDE,
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
    _tell(output, _ask(output, "classifiers", pipeline.evaluate_utility, opened, settings))


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
    _tell(output, _ask(output, "fidelity", pipeline.evaluate_fidelity, _opened(run), settings))


def physiology(
    run: RunFolder,
    method: Method = None,
    name: Name = "synthetic",
    records: Annotated[int, typer.Option(min=1, help="Records of a side, at most.")] = LARGEST_SIDE,
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
    cores = workers or training.available_cores()
    _tell(
        output,
        _ask(output, "delineation", pipeline.evaluate_physiology, _opened(run), settings, cores),
    )


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
    cores = workers or training.available_cores()
    _tell(output, _ask(output, "privacy", pipeline.evaluate_privacy, _opened(run), settings, cores))


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
    opened, cores = _opened(run), workers or training.available_cores()
    about = {
        "privacy": pipeline.PrivacySettings(methods, name, classifier, seed),
        "fidelity": pipeline.FidelitySettings(methods, name, classifier, seed),
        "physiology": pipeline.PhysiologySettings(methods, name, seed=seed),
        "utility": _with_answerable_arms(output, opened[1], utility),
    }
    _tell(
        output,
        _ask(output, "privacy", pipeline.evaluate_privacy, opened, about["privacy"], cores),
        _ask(output, "fidelity", pipeline.evaluate_fidelity, opened, about["fidelity"]),
        _ask(
            output, "delineation", pipeline.evaluate_physiology, opened, about["physiology"], cores
        ),
        _ask(output, "classifiers", pipeline.evaluate_utility, opened, about["utility"]),
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
    task: str,
    question: "Callable[..., pipeline.Answer]",
    about: "tuple[pipeline.Run, pipeline.Source, pipeline.Target]",
    settings: object,
    *workers: int,
) -> "pipeline.Answer":
    """One question about a run's sets, with its progress."""
    with output.progress(task) as progress:
        return question(*about, settings, *workers, progress)


def _tell(output: Output, *answers: "pipeline.Answer") -> None:
    """Tables, then verdicts, a question after the other."""
    parts: list[Grid | str] = []
    for answer in answers:
        parts += [Grid(table.title, table.header, table.rows) for table in answer.tables]
        parts += [told.sentence for told in (*answer.tests, *answer.verdicts)]
    output.result({answer.question: answer.to_card() for answer in answers}, *parts)
