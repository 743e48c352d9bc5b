"""`ecgtransfer demo`: the whole method on a simulated clinic."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, KeyValues, Output, Quiet


def demo(
    to: Annotated[Path, typer.Option(help="Run folder of the demonstration.")] = Path(
        "ecgtransfer-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole method on a simulated clinic, with a shipped source model.

    Transfers, generates and evaluates in minutes on two cores. An interrupted demo resumes.

    Example: ecgtransfer demo --to runs/demo
    """
    output = Output(json, quiet)
    summary = pipeline.run_demo(to, pipeline.DemoSettings(seed=seed), output)
    for sentence in summary.transfer.warnings:
        output.warn(sentence)
    output.result(
        summary,
        KeyValues("Demonstration on a simulated clinic", _rows(summary)),
        *(verdict.sentence for answer in summary.answers for verdict in answer.verdicts),
    )


def _rows(summary: "pipeline.DemoSummary") -> list[tuple[str, object]]:
    return [
        ("held-out loss of the source model on source records", summary.source.validation_loss),
        ("held-out loss of the source model on target records", summary.transfer.source_loss),
        ("held-out loss of the guided model on target records", summary.transfer.held_out_loss),
        ("synthetic records", summary.synthetic),
        ("synthetic records as WFDB", summary.wfdb),
        ("report", summary.report),
        *(("figure", path) for path in summary.figures),
        ("all results", summary.results),
    ]
