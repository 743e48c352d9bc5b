"""`ecgtransfer mixtures`: compare transfer methods where the true target is known."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgtransfer.training import available_cores

from .console import Json, KeyValues, Output, Quiet, Table

if TYPE_CHECKING:
    from ecgtransfer.experiments import Study


def mixtures(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the study; created if it does not exist.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Run one problem, two sizes and three seeds.")
    ] = False,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            help="Problem: paper, unequal, separated, new-mode, conditional, paper-8 or paper-32; "
            "repeat for several; default: all."
        ),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=10, help="Target training records; repeat for several; default: all of the study."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Repeats, each with its own records and networks.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of one thread each; default: one per core."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare transfer methods on Gaussian mixtures, whose true densities are known.

    Runs each problem with each number of target records, and reports intervals over seeds. Takes
    hours, or minutes with --quick. An interrupted study resumes; problems, sizes and seeds can be
    added later.

    Example: ecgtransfer mixtures studies/mixtures --quick
    """
    # Imported here because it imports torch, which help does not need.
    from ecgtransfer.experiments.figures import draw_study
    from ecgtransfer.experiments.mixtures import run_study
    from ecgtransfer.experiments.study import FULL, QUICK

    output = Output(json, quiet)
    standard = QUICK if quick else FULL
    settings = replace(
        standard,
        problems=tuple(dict.fromkeys(problem or standard.problems)),
        sizes=tuple(sorted(set(size or standard.sizes))),
        seeds=seeds or standard.seeds,
    )
    with output.progress("cells of the study") as progress:
        study = run_study(settings, folder, workers=workers or available_cores(), progress=progress)
    with output.progress("figures") as progress:
        figures = draw_study(study, folder, progress)
    numbers = study.as_json()
    payload = {"results": folder / "mixtures.json", "figures": figures}
    places = [("all numbers", folder / "mixtures.json"), *(("figure", each) for each in figures)]
    output.result(
        payload | {name: numbers[name] for name in ("rule", "settings", "methods", "tables")},
        *_tables(study),
        numbers["rule"],
        KeyValues("Transfer methods on Gaussian mixtures", places),
    )


def _tables(study: "Study") -> list[Table]:
    """Return one table for each problem and size of the settings."""
    from ecgtransfer.experiments.study import SCORES

    scores = [name.replace("_", " ") for name in SCORES]
    costs = ("seeds", "diverged", "parameters trained", "seconds", "selection seconds")
    return [
        Table(
            f"{name}, {n} target records",
            ("method", *scores, *costs),
            [
                (
                    row.method,
                    *(row.scores[score] for score in SCORES),
                    row.seeds,
                    row.diverged,
                    row.parameters,
                    row.seconds,
                    row.selection_seconds,
                )
                for row in study.table(name, n)
            ],
        )
        for name in study.settings.problems
        for n in study.settings.sizes
    ]
