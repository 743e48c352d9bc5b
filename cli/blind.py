"""`ecgtransfer evaluate blind`: a test whether clinicians recognise synthetic ECGs."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import drawing, evaluation, pipeline
from ecgtransfer.defaults import BLIND_RECORDS, PAPER_LAYOUT
from ecgtransfer.storage import to_card

from .console import Json, KeyValues, Output, Quiet, Table


def blind(
    folder: Annotated[Path, typer.Argument(help="Run folder; with --score, the test folder.")],
    to: Annotated[Path | None, typer.Option(help="Test folder to write.")] = None,
    records: Annotated[
        int, typer.Option(min=1, help="Number of ECGs of each kind.")
    ] = BLIND_RECORDS,
    method: Annotated[
        str | None,
        typer.Option(help="Method whose synthetic set is tested; needed if several have one."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the synthetic set.")] = "synthetic",
    layout: Annotated[
        str, typer.Option(help="Layout of an ECG on paper: 3x4 or 12x1.")
    ] = PAPER_LAYOUT,
    score: Annotated[
        bool, typer.Option("--score", help="Score the completed answer sheets.")
    ] = False,
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="Answer sheets, one per reader; default: all in the test folder."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw recorded and synthetic ECGs on paper, in random order, or score the readers' answers.

    Example: ecgtransfer evaluate blind runs/clinic --to readings/clinic --records 50
    """
    output = Output(json, quiet)
    if score:
        result = evaluation.score_blind_test(folder, answers)
        sentences = result.sentences()
        header, *rows = evaluation.reader_table(result).texts()
        payload = to_card(result) | {"sentences": sentences}
        output.result(payload, Table("Readers", header, rows), *sentences)
        return
    if to is None:
        raise typer.BadParameter("expected a folder for the test, or --score", param_hint="--to")
    if layout not in drawing.SHEETS:
        raise typer.BadParameter(f"expected {' or '.join(drawing.SHEETS)}", param_hint="--layout")
    run = pipeline.Run.open(folder)
    source = pipeline.load_source(run)
    settings = pipeline.BlindSettings(method, name, records, layout, seed)
    with output.progress("ECGs") as progress:
        test = pipeline.write_blind(run, pipeline.load_target(run, source), settings, to, progress)
    payload = evaluation.describe_blind_test(test)
    facts = [(name.replace("_", " "), value) for name, value in payload.items()]
    warnings = [test.warning()] if test.warning() else []
    next_step = f"When the answer sheets are complete: ecgtransfer evaluate blind {to} --score"
    output.result(payload, KeyValues("Blind test", facts), *warnings, next_step)
