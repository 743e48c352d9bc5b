"""`ecgtransfer demo`: the whole method on a simulated clinic."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Facts, Json, Output, Quiet


def demo(
    to: Annotated[Path, typer.Option(help="Run folder of the demonstration.")] = Path(
        "ecgtransfer-demo"
    ),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the whole method on a simulated clinic, with the source model that is shipped.

    Transfers, generates and evaluates, in minutes on two cores. Goes on where it was stopped.

    Example: ecgtransfer demo --to runs/demo
    """
    output = Output(json, quiet)
    summary = pipeline.run_demo(to, pipeline.DemoSettings(seed=seed), output)
    for sentence in summary.transfer.warnings:
        output.warn(sentence)
    output.result(
        summary,
        Facts("Demonstration on a simulated clinic", _rows(summary)),
        *(verdict.sentence for answer in summary.answers for verdict in answer.verdicts),
    )


def _rows(summary: "pipeline.DemoSummary") -> list[tuple[str, object]]:
    return [
        ("source model, held-out loss", summary.source.validation_loss),
        ("calibration records, source model", summary.transfer.source_loss),
        ("calibration records, guided", summary.transfer.held_out_loss),
        ("synthetic records", summary.synthetic),
        ("as WFDB", summary.wfdb),
        ("report", summary.report),
        *(("figure", path) for path in summary.figures),
        ("every number", summary.results),
    ]
