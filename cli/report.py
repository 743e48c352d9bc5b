"""`ecgtransfer report`: the answers of a run on one page."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Facts, Json, Output, Quiet


def report(
    run: Annotated[Path, typer.Argument(help="Run folder with answered questions.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder for report.html and report.json; else the run's.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Whose sets; none given: all of the run.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the sets.")] = "synthetic",
    without_real: Annotated[
        bool, typer.Option("--without-real", help="Draw no real ECG, so that it can be passed on.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a run: one HTML page that needs no network, its numbers beside it.

    Example: ecgtransfer report runs/clinic --without-real
    """
    settings = pipeline.ReportSettings(name, tuple(method or ()), not without_real)
    opened = pipeline.Run.open(run)
    source = pipeline.load_source(opened)
    folder = to or opened.folder / "report"
    page = pipeline.report_run(
        opened, source, pipeline.load_target(opened, source), settings, folder
    )
    payload = {"page": page, "numbers": page.with_suffix(".json")}
    Output(json, quiet).result(payload, Facts("Report", list(payload.items())))
