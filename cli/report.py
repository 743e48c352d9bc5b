"""`ecgtransfer report`: write the results of a run as one page."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, KeyValues, Output, Quiet


def report(
    run: Annotated[Path, typer.Argument(help="Run folder with finished evaluations.")],
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html and report.json; default: RUN/report."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Transfer method to report; repeat for several; default: all."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the synthetic sets.")] = "synthetic",
    without_real: Annotated[
        bool,
        typer.Option("--without-real", help="Draw no recorded ECG, so that it can be shared."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a run: one HTML page that works offline, and its numbers as JSON.

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
    Output(json, quiet).result(payload, KeyValues("Report", list(payload.items())))
