"""`ecgtransfer demo`: the whole method on simulated hospitals."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer.pipeline import DemoSettings, DemoSummary, run_demo
from ecgtransfer.pipeline.run import as_json

from .console import Json, Output, Quiet, facts, grid


def demo(
    to: Annotated[Path, typer.Option(help="Run folder of the demonstration.")] = Path(
        "ecgtransfer-demo"
    ),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train, transfer, generate and evaluate on two simulated hospitals, in minutes on two cores.

    Example: ecgtransfer demo --to runs/demo
    """
    output = Output(json, quiet)
    summary = run_demo(to, DemoSettings(seed=seed), output)
    for sentence in summary.transfer.warnings:
        output.warn(sentence)
    evaluation = summary.evaluation
    output.result(
        as_json(summary),
        grid("Utility", evaluation.utility_rows[0], evaluation.utility_rows[1:]),
        grid("Fidelity", evaluation.fidelity_rows[0], evaluation.fidelity_rows[1:]),
        facts("Demonstration on simulated hospitals", _rows(summary)),
        *evaluation.verdicts,
    )


def _rows(summary: DemoSummary) -> list[tuple[str, object]]:
    return [
        ("source model, held-out loss", summary.source.validation_loss),
        ("on the target, source model", summary.transfer.source_loss),
        ("on the target, guided", summary.transfer.held_out_loss),
        ("synthetic records", summary.synthetic),
        ("as WFDB", summary.wfdb),
        ("figures", ", ".join(str(path) for path in summary.figures)),
        ("every number", summary.results),
    ]
