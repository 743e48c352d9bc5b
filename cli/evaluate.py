"""`ecgtransfer evaluate`: what synthetic sets are worth."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer.evaluation import ClassifierConfig
from ecgtransfer.pipeline import EvaluateSettings, Run, load_source, load_target
from ecgtransfer.pipeline import evaluate as run_evaluation

from .console import Grid, Json, Output, Quiet


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder with a synthetic set.")],
    method: Annotated[
        list[str] | None, typer.Option(help="Whose sets; none given: all of the run.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the sets.")] = "synthetic",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm.")] = (
        EvaluateSettings.seeds
    ),
    classifier_steps: Annotated[
        int, typer.Option(min=1, help="Training steps of each classifier.")
    ] = ClassifierConfig.steps,
    folds: Annotated[
        int, typer.Option(min=2, help="Parts of the cross-fitting behind the thresholds.")
    ] = ClassifierConfig.folds,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what synthetic sets are worth.

    Utility for a classifier, and fidelity, both on held-out target patients.

    Example: ecgtransfer evaluate runs/clinic --seeds 5
    """
    output = Output(json, quiet)
    opened = Run.open(run)
    source = load_source(opened)
    settings = EvaluateSettings(
        methods=tuple(method or ()),
        name=name,
        seeds=seeds,
        classifier=ClassifierConfig(steps=classifier_steps, folds=folds),
        seed=seed,
    )
    with output.progress("classifiers") as progress:
        result = run_evaluation(opened, source, load_target(opened, source), settings, progress)
    output.result(
        result,
        Grid("Utility", result.utility_rows[0], result.utility_rows[1:]),
        Grid("Fidelity", result.fidelity_rows[0], result.fidelity_rows[1:]),
        *result.verdicts,
    )
