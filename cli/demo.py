"""`ecgtransfer demo`: the whole method on a simulated clinic."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, KeyValues, Output, Quiet

#: Commands for the reader's own recordings, which the summary ends with.
NEXT = (
    "Next, with your own ECGs (WFDB files, and a table of their labels):",
    "  ecgtransfer data prepare wfdb FOLDER --table LABELS.csv --to sets/clinic",
    "  ecgtransfer augment sets/clinic --to augmented",
)


def demo(
    to: Annotated[Path, typer.Option(help="Run folder of the demonstration.")] = Path(
        "ecgtransfer-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole method on a simulated clinic, with a shipped source model.

    Learns from 30 simulated ECGs, generates 120 synthetic ones and states what they change for a
    classifier of 300 other simulated patients. Takes minutes on two cores. An interrupted demo
    resumes.

    Example: ecgtransfer demo --to runs/demo
    """
    output = Output(json, quiet)
    settings = pipeline.DemoSettings(seed=seed)
    output.note(settings.opening(to))
    summary = pipeline.run_demo(to, settings, output)
    for sentence in summary.transfer.warnings:
        output.warn(sentence)
    output.result(
        summary,
        "Result on a simulated clinic, without any real patient:",
        *(f"- {sentence}" for sentence in summary.sentences()),
        KeyValues("Files", _files(summary)),
        *NEXT,
    )


def _files(summary: "pipeline.DemoSummary") -> list[tuple[str, object]]:
    return [
        ("report", summary.report),
        ("synthetic records", summary.synthetic),
        ("synthetic records as WFDB", summary.wfdb),
        *(("figure", path) for path in summary.figures),
        ("all results", summary.results),
    ]
