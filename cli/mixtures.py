"""`ecgtransfer mixtures`: the transfer methods where the truth is known."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgtransfer.training import available_cores

from .console import Facts, Grid, Json, Output, Quiet

if TYPE_CHECKING:
    from ecgtransfer.experiments import Study


def mixtures(
    folder: Annotated[Path, typer.Argument(help="Of the study; begun if it is new.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="One problem, two sizes, three seeds.")
    ] = False,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            help="paper, unequal, separated, new-mode, conditional, paper-8 or paper-32; none "
            "given: all of the study."
        ),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(min=10, help="Target records to learn from; none given: all of the study."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Repeats, with records and networks of their own.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, of one thread each; none given: one a core."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Study the transfer methods on Gaussian mixtures, where the truth is known in closed form.

    Every problem with every number of target records, with intervals over seeds; hours, or
    minutes with --quick. Goes on where it was stopped, and takes more problems, sizes or seeds.

    Example: ecgtransfer mixtures studies/mixtures --quick
    """
    # The package loads its networks, and torch with them.
    from ecgtransfer.experiments.figures import draw_study
    from ecgtransfer.experiments.mixtures import FULL, QUICK, run_study

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
    held = study.as_json()
    payload = {"results": folder / "mixtures.json", "figures": figures}
    places = [("every number", folder / "mixtures.json"), *(("figure", each) for each in figures)]
    output.result(
        payload | {name: held[name] for name in ("rule", "settings", "methods", "tables")},
        *_grids(study),
        held["rule"],
        Facts("Transfer methods on Gaussian mixtures", places),
    )


def _grids(study: "Study") -> list[Grid]:
    """One table for each problem and size that was asked for."""
    from ecgtransfer.experiments.mixtures import SCORES

    scores = [name.replace("_", " ") for name in SCORES]
    costs = ("seeds", "diverged", "parameters trained", "seconds", "selection seconds")
    return [
        Grid(
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
